"""BatchNorm over the batch of all processes, as an option for GPUs."""

from typing import Any, cast

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedBatchNorm(TorchSyncBatchNorm):
    """Lets a fit's BatchNorms share their statistics, and gives back the layers there were.

    torch's own conversion, which Lightning would use, drops the activation that timm has in the
    norms of EfficientNet and others; timm's keeps it. The frozen teacher lies outside the module
    and stays as it is. Names in the state dict do not change.
    """

    def __init__(self) -> None:
        self._plain: dict[str, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Put a SyncBatchNorm in the place of every BatchNorm, with its weights and statistics."""
        self._plain = {k: m for k, m in model.named_modules() if isinstance(m, _BatchNorm)}
        converted: nn.Module = cast(Any, convert_sync_batchnorm)(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the earlier layers back, with what their stand-ins have learned."""
        for name, plain in self._plain.items():
            synced = model.get_submodule(name)
            plain._parameters, plain._buffers = synced._parameters, synced._buffers
            model.set_submodule(name, plain.train(synced.training))
        self._plain = {}
        return model
