"""Weights in training: what is frozen, learning rates by layer, recomputation, averages."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tokd_lightning.errors import TokdError
from tokd_lightning.models.layers import decayed_groups
from tokd_lightning.models.rebuild import drawn_from
from tokd_lightning.models.tuning import Tune, Tuning, recompute
from tokd_lightning.modules.average import (
    WeightAverage,
    averaged_entries,
    check_decay,
    read_average,
    write_average,
)
from tokd_lightning.modules.partial import FROZEN, HEADER, completed, take_frozen
from tokd_lightning.modules.rotation_step import optimizer_of
from tokd_lightning.modules.symptoms import announce_tuning


class TunedModule(pl.LightningModule):
    """Module whose network may be frozen in part, recomputed and averaged.

    Args:
        tune: As in :class:`~tokd_lightning.modules.DetectionModule`, as are the others.
        checkpointing: Whether to recompute activations.
        layer_decay: Factor of the learning rate from layer to layer.
        ema: Decay of the moving average; None for none.

    Attributes:
        kind: Name of the network in the module and in checkpoints.
        tuning: What is frozen; None before :meth:`hold_frozen`.
        average: The moving average of a running fit; None without one.
    """

    kind: str
    seed: int

    def __init__(
        self, tune: str, checkpointing: bool, layer_decay: float, ema: float | None
    ) -> None:
        super().__init__()
        if not 0 < layer_decay <= 1:
            raise TokdError(f"--model.layer_decay must be above 0 and at most 1, not {layer_decay}")
        check_decay(ema)
        self.tune = Tune.parse(tune)
        self.checkpointing = checkpointing
        self.layer_decay = layer_decay
        self.ema = ema
        self.tuning: Tuning | None = None
        self.average: WeightAverage | None = None
        self._resumed_average: tuple[dict[str, Tensor], int] | None = None

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """Network that scores images: the teacher, or the student S_B with G_Sc."""

    def hold_frozen(self) -> None:
        """Freeze what does not train; called by subclasses once the network is built."""
        self.tuning = Tuning(self.network, self.tune)

    def prepare(self, size: int) -> None:
        """Insert adapters and have activations recomputed, for a fit.

        Args:
            size: Side of the images in pixels.
        """
        if self.tuning is not None:
            with drawn_from(self.seed):
                self.tuning.adapt(size)
        if self.checkpointing:
            recompute(self.network, size)

    def train(self, mode: bool = True) -> Self:
        """Set train mode, except for frozen parts."""
        super().train(mode)
        self.keep_frozen()
        return self

    def keep_frozen(self) -> None:
        """Set frozen parts back to eval mode."""
        if self.tuning is not None:
            self.tuning.set_modes()

    def optimizer_for(
        self, make: Any, parameters: Iterable[nn.Parameter], resumed: bool | None = None
    ) -> Optimizer:
        """Build the optimizer of the parameters that train, with the learning rate of each layer.

        Args:
            make: Factory of the optimizer.
            parameters: Those of the network and of what trains with it.
            resumed: As for :func:`~tokd_lightning.modules.rotation_step.fuses`.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.layer_decay == 1:
            return optimizer_of(make, trained, resumed=resumed)
        groups, factors = decayed_groups(self.network, trained, self.layer_decay)
        optimizer = optimizer_of(make, groups, resumed=resumed)
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] *= factor
        return optimizer

    def on_fit_start(self) -> None:
        """Begin the average; announce what trains."""
        if self.tuning is not None and self.tuning.partial:
            announce_tuning(self.network, self.tune)
        if self.ema is not None:
            names = averaged_entries(self)
            self.average = WeightAverage(self, names, self.ema, self._resumed_average)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the weights of a step into the average."""
        if self.average is not None:
            self.average.follow(self.trainer.global_step)

    def on_validation_start(self) -> None:
        """Validate the average."""
        if self.average is not None:
            self.average.exchange()

    def on_validation_end(self) -> None:
        """Go on with the weights in training."""
        if self.average is not None:
            self.average.exchange()

    def on_fit_end(self) -> None:
        """Take the average, and add adapters to the weights: the network is that of tests."""
        if self.average is not None:
            self.average.exchange()
            self.average = None
        if self.tuning is not None:
            self.tuning.fold()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the average in place of the weights, and leave out what is frozen."""
        checkpoint["state_dict"] = dict(checkpoint["state_dict"])
        if self.average is not None:
            write_average(checkpoint, self.average)
        if self.tuning is not None and self.tuning.partial:
            state = checkpoint["state_dict"]
            taken = take_frozen(state, self.network, self.tuning, self.kind, self.seed)
            checkpoint[HEADER][FROZEN] = taken

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what is frozen and, for a fit, the weights in training."""
        state, header = checkpoint["state_dict"], checkpoint[HEADER]
        checkpoint["state_dict"] = completed(state, self.state_dict(), header, "the checkpoint")
        if self.trainer.state.fn == "fit":
            self._resumed_average = read_average(checkpoint)


def check_rates(
    optimizer: Optimizer, rates: list[float], scheduler: LRScheduler, name: str
) -> None:
    """Check that a new scheduler keeps the ratios of the layers' learning rates.

    Args:
        optimizer: The optimizer, with the scheduler's first learning rates.
        rates: Learning rates before.
        scheduler: The scheduler.
        name: Its option.

    Raises:
        TokdError: It sets one learning rate for all layers, or ends at one above that of a layer.
    """
    now = [float(group["lr"]) for group in optimizer.param_groups]
    pairs = zip(now, rates, strict=True)
    name = f"--model.{name} {type(scheduler).__name__}"
    if any(not math.isclose(a * rates[0], now[0] * b, rel_tol=1e-6) for a, b in pairs):
        raise TokdError(
            f"{name} sets one learning rate for all layers, so that --model.layer_decay "
            "would have no effect: use a scheduler that scales them, such as CosineAnnealingLR"
        )
    parts = (scheduler, *getattr(scheduler, "_schedulers", ()))
    end = max(float(getattr(part, "eta_min", 0.0)) for part in parts)
    if len({*rates}) > 1 and end > min(rates):
        raise TokdError(
            f"{name} ends at {end:g}, above the {min(rates):.3g} that the first layer has by "
            "--model.layer_decay: lower eta_min"
        )
