"""BatchNorm over the batch of all ranks, an option for GPUs."""

from typing import Any, cast

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from tokd_lightning.lightning_internals import is_batchnorm, take_state


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Synchronises a fit's BatchNorm statistics over ranks, and restores the layers afterwards.

    torch's own conversion, which Lightning would use, drops the activation inside timm's norms of
    EfficientNet and others; timm's keeps it. The frozen teacher is outside the module and remains
    unchanged. Names in the state dict do not change.
    """

    def __init__(self) -> None:
        self._plain: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace every BatchNorm by a SyncBatchNorm with its weights and statistics."""
        self._plain = {k: m for k, m in model.named_modules() if is_batchnorm(m)}
        converted: nn.Module = cast(Any, convert_sync_batchnorm)(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the earlier layers, with the weights and statistics of their replacements."""
        for name, plain in self._plain.items():
            synced = model.get_submodule(name)
            take_state(plain, synced)
            model.set_submodule(name, plain.train(synced.training))
        self._plain = {}
        return model
