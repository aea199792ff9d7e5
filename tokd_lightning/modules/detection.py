"""Shared base of teacher and student training: scores, metrics, the checkpoint's header."""

import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, cast

import pandas as pd
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import BinaryAccuracy

from tokd_lightning.distillation.gradients import KEPT_PASSES
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import frame_and_video_metrics, seen_and_unseen
from tokd_lightning.models.detectors import extras_of
from tokd_lightning.modules.compile import compile_in_place
from tokd_lightning.modules.finite import FiniteLoss
from tokd_lightning.modules.partial import HEADER
from tokd_lightning.modules.rotation_step import clip_gradient, scheduler_of
from tokd_lightning.modules.symptoms import announce_normalisation
from tokd_lightning.modules.tuned import TunedModule, check_rates


class DataModule(Protocol):
    """What the modules read from the trainer's DataModule; ``FrameDataModule`` has it all.

    Attributes:
        name: Name of the data set.
        quality: Its quality.
        mean: Subtracted from images in [0, 1]; one number or three.
        std: Images are divided by it; one number or three.
        accumulate: Number of parts in which a batch is computed; set by the module.
        skipped: Split -> rows of frames that could not be read.
    """

    name: str
    quality: str
    mean: float | list[float]
    std: float | list[float]
    accumulate: int
    skipped: dict[str, set[int]]

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""

    @property
    def class_weights(self) -> Tensor | None:
        """Weights of the classes in the cross-entropy, ``(2,)``; None for none."""

    def table(self, split: str) -> pd.DataFrame:
        """Return the rows of a split, indexed by row number."""

    def sample_seeds(self, batch: Any) -> list[int]:
        """Return a seed per sample of a training batch."""

    def seeded(self, batch: Any) -> AbstractContextManager[None]:
        """Seed torch's global generators for the forward pass of a training batch."""


OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
LRSchedulerCallable = Callable[[Optimizer], LRScheduler]
Interval = Literal["epoch", "step"]


class DetectionModule(TunedModule):
    """A network that classifies real (class 0) and fake (class 1), with its evaluation.

    Validation and test keep one score per frame, gather them over ranks without duplicates and
    report frame and video level metrics (Sec. 5.2 reports frame level accuracy and AUC). After a
    test or a prediction, ``scores`` holds one row per frame.

    Args:
        optimizer: Factory of the optimizer, given parameters; Adam (0.9, 0.999) in Sec. 5.2.
        lr_scheduler: Factory of its scheduler; StepLR(5, 0.1) in Sec. 5.2.
        interval: Whether the schedulers step each epoch (the paper) or each step.
        clip: Maximum gradient norm per step; larger gradients are scaled down to it. None (the
            default) does not clip. An fp16 loss scale is removed before.
        accumulate: Number of parts in which a batch is computed, one after another, if it does not
            fit the memory: gradients add up to one step. It equals the step of the whole batch
            except for BatchNorm, whose statistics are those of a part, and losses that compare the
            samples of a batch (SP, PKT, ``loss_weight``).
        seed: Seed of the initial weights, drawn in a separate RNG fork.
        compile: Whether to compile the networks with ``torch.compile``, for training and its
            validations, from the first batch on.
        tune: What of the network's backbones trains: ``all``, ``norms`` (normalisation layers),
            ``head`` (nothing) or ``lora(RANK)`` (low-rank adapters of the linear layers of
            attention, W + B A). The rest of the network (classifier, RFAMs, a detector's own
            layers) trains in every case. What is frozen stays in eval mode and is not in the
            checkpoints, see :mod:`tokd_lightning.modules.partial`.
        checkpointing: Whether activations inside the backbones' blocks are recomputed in the
            backward pass, for less memory and more time; the result is the same bit for bit.
        layer_decay: Factor of the learning rate from each layer of a backbone to the one before,
            in (0, 1], see :func:`~tokd_lightning.models.layers.decayed_groups`; 1 is one rate.
        ema: Decay beta of a moving average of the weights, which is validated, selected and saved
            in their place, see :class:`~tokd_lightning.modules.average.WeightAverage`; None for
            none.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable,
        interval: Interval = "epoch",
        clip: float | None = None,
        accumulate: int = 1,
        seed: int = 0,
        compile: bool = False,
        tune: str = "all",
        checkpointing: bool = False,
        layer_decay: float = 1.0,
        ema: float | None = None,
    ) -> None:
        super().__init__(tune, checkpointing, layer_decay, ema)
        if checkpointing and compile:
            raise TokdError("--model.checkpointing and --model.compile exclude each other")
        if clip is not None and not clip > 0:
            raise TokdError(f"clip must be above 0, not {clip}")
        if not 1 <= accumulate <= KEPT_PASSES:
            raise TokdError(f"accumulate must be between 1 and {KEPT_PASSES}, not {accumulate}")
        self.make_optimizer = optimizer
        self.make_scheduler = lr_scheduler
        self.interval = interval
        self.clip = clip
        self.accumulate = accumulate
        self.seed = seed
        self.compiled = compile
        self.register_buffer("class_weights", None, persistent=False)
        self.scores = pd.DataFrame()
        # The metric's value checks, and a value per step, would wait for the device every time.
        self.train_accuracy = BinaryAccuracy(validate_args=False)
        self.finite = FiniteLoss()
        self.fused: bool | None = None  # whether the run that is resumed has a fused Adam
        self._collected: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def data(self) -> DataModule:
        """DataModule of the running trainer."""
        return cast(DataModule, cast(Any, self.trainer).datamodule)

    def forward(self, image: Tensor, **extras: Tensor) -> Tensor:
        """Return logits ``(B, 2)``, real and fake, of normalised images ``(B, 3, H, W)``, Eq. 8."""
        return cast(Tensor, self.network(image, **extras).logits)

    def needs(self, fitting: bool) -> set[str]:
        """Return the batch entries beyond image and label that a fit, or a test, needs."""
        return set(getattr(self.network, "reads", ()))

    def ask(self, data: Any, fitting: bool = False) -> None:
        """Have a data module's batches contain what a fit, or a test, needs.

        Raises:
            TokdError: The data do not have it.
        """
        if needed := self.needs(fitting):
            data.require(needed)

    def cross_entropy(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy, Eq. 9, weighted by class if ``balance: loss_weight``."""
        weights = self.class_weights
        return functional.cross_entropy(logits.float(), label, weights, label_smoothing=smoothing)

    def setup(self, stage: str) -> None:
        """Pass ``accumulate`` to the data module and the trainer."""
        if stage != "fit":
            return
        self.prepare(self.data.input_size)
        self.data.accumulate = self.accumulate
        if self.automatic_optimization:
            self.trainer.accumulate_grad_batches = self.accumulate
        else:  # a log row must not lack what only whole batches have
            trainer: Any = self.trainer
            trainer.log_every_n_steps *= self.accumulate

    def release(self) -> None:
        """Drop the gradients of a finished step: memory for another fit that takes its turn."""
        loop = cast(Any, self.trainer).fit_loop.epoch_loop
        if loop.batch_progress.current.completed % self.accumulate == 0:
            for parameter in self.parameters():
                parameter.grad = None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient, which is averaged over ranks already."""
        if self.clip is not None:
            clip_gradient(self, optimizer, self.clip)

    def on_train_epoch_start(self) -> None:
        """Reset the epoch's training accuracy."""
        self.train_accuracy.reset()

    def log_training(self, loss: Tensor, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """Log the loss, update the accuracy, and record a batch whose loss is not finite."""
        self.log("train/loss", loss.detach())  # prog_bar would wait for the device
        self.train_accuracy.update(logits.detach().argmax(1), batch["label"])
        self.finite.note(loss, batch["index"])

    # Evaluation

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Score one batch of the validation split."""
        self._collect(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Score one batch of the test split."""
        self._collect(batch)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Score one batch; ``scores`` holds the rows at the end."""
        self._collect(batch)

    def on_validation_start(self) -> None:
        """Broadcast rank 0's buffers (BatchNorm statistics), which a checkpoint saves."""
        self._broadcast_buffers()
        super().on_validation_start()
        self._broadcast_buffers()

    def _broadcast_buffers(self) -> None:
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, src=0)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/…`` metrics and, with them, the epoch's accuracy on the training frames."""
        if self.trainer.sanity_checking:
            self._collected.clear()
            return
        self._report("val")
        if self.trainer.state.fn == "fit":
            self.log("train/acc", self.train_accuracy.compute(), sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Log ``test/…`` metrics and keep the scores."""
        self._report("test")

    def on_predict_epoch_end(self) -> None:
        """Keep the scores; no metric is computed."""
        self._gather("test")

    def _collect(self, batch: dict[str, Tensor]) -> None:
        if len(batch["image"]) == 0:
            return
        logits = self(batch["image"], **extras_of(self.network, batch)).double()
        loss = functional.cross_entropy(logits, batch["label"], reduction="none")
        self._collected.append((batch["index"], logits.softmax(1)[:, 1], loss))

    def _report(self, split: str) -> None:
        self._gather(split)
        metrics = frame_and_video_metrics(self.scores)
        metrics["loss"] = float(self.scores["loss"].mean())
        apart = getattr(self.data, "leave_out", None) if split == "test" else None
        metrics |= seen_and_unseen(self.scores, apart or ())
        # float32: a float64 scalar cannot be moved to some accelerators. All ranks have the same
        # numbers; sync_dist spares a warning for each.
        for key, value in metrics.items():
            shown = key in {"frame/acc", "frame/auc"}
            self.log(f"{split}/{key}", torch.tensor(value), prog_bar=shown, sync_dist=True)

    def _gather(self, split: str) -> None:
        columns = [torch.cat(column).cpu().numpy() for column in zip(*self._collected, strict=True)]
        self._collected.clear()
        mine = pd.DataFrame(dict(zip(("index", "p_fake", "loss"), columns, strict=False)))
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            distributed.all_gather_object(parts, (mine, self.data.skipped))
            mine = pd.concat([scores for scores, _ in parts], ignore_index=True)
            for _, skipped in parts:
                for name, rows in skipped.items():
                    self.data.skipped[name] |= rows
        if mine.empty:
            raise TokdError(f"no frame of the {split} split could be read")
        mine = mine.drop_duplicates("index").set_index("index").sort_index()
        self.scores = self.data.table(split).join(mine, how="inner")

    # Optimizer and checkpoint

    def configure_optimizers(self) -> Any:
        """Return one optimizer for all that trains: network, projectors, what a loss trains."""
        optimizer = self.optimizer_for(self.make_optimizer, self.parameters(), self.fused)
        schedule = self.schedule(optimizer, self.make_scheduler)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": self.interval},
        }

    def schedule(
        self, optimizer: Optimizer, make: LRSchedulerCallable, name: str = "lr_scheduler"
    ) -> LRScheduler:
        """Build the scheduler of an optimizer; ``OneCycleLR`` spans the run by default.

        Raises:
            TokdError: It refuses its arguments, or needs a metric at every step, like
                ``ReduceLROnPlateau``.
        """
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        scheduler = self._made(make, optimizer, name)
        check_rates(optimizer, rates, scheduler, name)
        try:
            inspect.signature(scheduler.step).bind()
        except TypeError as error:
            raise TokdError(
                f"{name} needs a metric at every step, which is not supported: use "
                "another scheduler"
            ) from error
        return scheduler

    def _made(self, make: LRSchedulerCallable, optimizer: Optimizer, name: str) -> LRScheduler:
        return scheduler_of(make, optimizer, self._length, name)

    def _length(self) -> float:
        """Return the number of scheduler steps in this run: batches or epochs; can be infinite."""
        epochs, most = self.trainer.max_epochs or 1, self.trainer.max_steps
        if self.interval == "epoch":
            return epochs
        steps = self.trainer.estimated_stepping_batches  # also creates the loader
        if self.automatic_optimization or epochs < 0:
            return steps
        steps = int(self.trainer.num_training_batches) // self.accumulate * epochs
        return steps if most < 0 else min(steps, most)

    def on_train_start(self) -> None:
        """Simulate the schedule, to detect now if it ends before the run."""
        self._play(self.make_scheduler, "lr_scheduler")

    def _play(
        self, make: LRSchedulerCallable | None, name: str, number: int = 0
    ) -> tuple[float, float]:
        """Return the learning rates at the first and the last step of the run."""
        rate = self.trainer.optimizers[number].defaults["lr"]
        if make is None:
            return rate, rate
        stand_in, scheduler = self._stand_in(make, rate, name)
        start = end = stand_in.param_groups[0]["lr"]
        steps = self._length()
        for step in range(int(steps) if math.isfinite(steps) else 0):
            end = stand_in.param_groups[0]["lr"]
            stand_in.step()
            try:
                scheduler.step()
            except ValueError as error:
                raise TokdError(
                    f"{name} ends after {step} {self.interval}s but this run has {steps}: "
                    "set its total_steps"
                ) from error
            except ArithmeticError as error:
                raise TokdError(f"--model.{name}: {error}") from error
        return start, end

    def _stand_in(
        self, make: LRSchedulerCallable, rate: float, name: str
    ) -> tuple[Optimizer, LRScheduler]:
        """Build a scheduler on an optimizer that updates no weights."""
        stand_in = torch.optim.SGD([torch.zeros(1)], lr=rate, momentum=0.9)
        return stand_in, self._made(make, stand_in, name)

    def on_fit_start(self) -> None:
        """Check the precision, compile the networks and fetch the class weights."""
        super().on_fit_start()
        if str(self.trainer.precision) in {"16-true", "bf16-true"}:
            raise TokdError(
                f"--trainer.precision {self.trainer.precision} rounds the weights and the "
                "rotations; use 16-mixed, bf16-mixed or 32-true"
            )
        announce_normalisation(self.network, self.data.mean, self.data.std)
        if self.compiled:
            compile_in_place(self.network)
        weights = self.data.class_weights
        self.class_weights = None if weights is None else weights.to(self.device, torch.float32)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the header needed to rebuild the network and its input."""
        fold = getattr(self.data, "fold_hash", None)
        checkpoint[HEADER] = {
            "kind": self.kind,
            "network": self.network.spec,
            "mean": self.data.mean,
            "std": self.data.std,
            "input_size": self.data.input_size,
            "data": f"{self.data.name}-{self.data.quality}",
            "fold": fold() if fold else None,  # to detect a student of another fold
        }
        super().on_save_checkpoint(checkpoint)
        if left_out := getattr(self.data, "leave_out", None):
            checkpoint[HEADER]["leave_out"] = sorted(left_out)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore all weights; note whether the run that is resumed has a fused Adam."""
        super().on_load_checkpoint(checkpoint)
        for state in checkpoint.get("optimizer_states", [])[:1]:
            self.fused = bool(state["param_groups"][0].get("fused"))
