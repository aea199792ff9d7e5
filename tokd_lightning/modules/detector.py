"""Training of the detectors of Tables 2 and 7."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import SEEDS, Detector, DetectorLoss, extras_of
from tokd_lightning.models.objectives import Objectives, normalise_head
from tokd_lightning.models.rebuild import drawn_from
from tokd_lightning.modules.detection import (
    DetectionModule,
    LRSchedulerCallable,
    OptimizerCallable,
)


class DetectorModule(DetectionModule):
    """Trains any :class:`~tokd_lightning.models.detectors.Detector` with its own loss.

    Args:
        detector: Factory of the network, such as ``SPSL``; ``tokd detectors`` lists them.
        optimizer: As in :class:`DetectionModule`.
        lr_scheduler: As in :class:`DetectionModule`.
        loss: Factory of the loss, given the network; None takes the detector's own, with its
            defaults.
        recipe: Name of the training recipe in run names and tables: ``paper`` for that of the
            detector's publication, ``house`` for that of Sec. 5.2.
        warm_up_epochs: Number of epochs in which the pretrained body, with its BN statistics, does
            not change.
        label_smoothing: Of the cross-entropy, see
            :class:`~tokd_lightning.models.objectives.Objectives`.
        normalised_head: Whether the classifier reads features of unit length, see
            :class:`~tokd_lightning.models.objectives.NormalisedLinear`.
        alignment: Weight of :func:`~tokd_lightning.models.objectives.alignment`, on the features
            that the classifier reads.
        uniformity: Weight of :func:`~tokd_lightning.models.objectives.uniformity`, on the same.
        **training: Other arguments of :class:`DetectionModule`.

    Raises:
        TokdError: An option of the detector or of its loss is wrong.
    """

    kind = "detector"

    def __init__(
        self,
        detector: Callable[[], Detector],
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable,
        loss: Callable[[Detector], DetectorLoss] | None = None,
        recipe: str = "own",
        warm_up_epochs: int = 0,
        label_smoothing: float = 0.0,
        normalised_head: bool = False,
        alignment: float = 0.0,
        uniformity: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, **training)
        self.objectives = Objectives(label_smoothing, alignment, uniformity)
        self.objectives.check()
        self.recipe = recipe
        self.warm_up_epochs = warm_up_epochs
        try:
            with drawn_from(self.seed):
                self.detector = detector()
                self.loss = self.detector.make_loss() if loss is None else loss(self.detector)
        except ValueError as error:
            raise TokdError(f"--model.detector: {error}") from error
        self._add_objectives(normalised_head)
        self.to(memory_format=torch.channels_last)
        self.hold_frozen()

    def _add_objectives(self, normalised_head: bool) -> None:
        """Set the head and the smoothing.

        Raises:
            TokdError: The detector has no features for them, or its loss no cross-entropy.
        """
        if normalised_head:
            normalise_head(self.detector)
        if self.objectives.read_features and type(self.detector).features is Detector.features:
            raise TokdError(
                f"--model.alignment and --model.uniformity: {self.detector.title} has no pooled "
                "features before a linear classifier"
            )
        self.loss.label_smoothing = self.objectives.label_smoothing
        if self.loss.label_smoothing and not self.loss.smooths:
            raise TokdError(
                f"--model.label_smoothing: the loss of {self.detector.title} has no cross-entropy"
            )

    @property
    def network(self) -> nn.Module:
        """The detector."""
        return self.detector

    def needs(self, fitting: bool) -> set[str]:
        """Return what the network reads and, for a fit, what its loss needs."""
        return super().needs(fitting) | (set(self.loss.supervision) if fitting else set())

    def setup(self, stage: str) -> None:
        """Check the side of the images."""
        super().setup(stage)
        self.detector.check_size(self.data.input_size)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the sum of the detector's losses; random numbers come from the batch's seeds."""
        self.loss.epoch = self.current_epoch
        if self.current_epoch < self.warm_up_epochs:
            self.detector.body.eval()
        batch = {**batch, SEEDS: self.data.sample_seeds(batch)}
        batch["image"] = self.loss.before_step(self.detector, batch)
        with self.data.seeded(batch):
            output = self.detector(batch["image"], **extras_of(self.detector, batch))
            losses = self.loss(self.detector, output, batch)
        if self.objectives.read_features:
            features = self.detector.features(output)
            losses = {**losses, **self.objectives.on_features(features, batch["label"])}
        loss = torch.stack(list(losses.values())).sum()
        self.log_training(loss, output.logits, batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop the gradients of a frozen body, and clip the others."""
        if self.current_epoch < self.warm_up_epochs:
            for parameter in self.detector.body.parameters():
                parameter.grad = None  # an optimizer skips parameters without one
        super().on_before_optimizer_step(optimizer)

    def on_train_epoch_end(self) -> None:
        """Release the body after the last epoch of the warm-up."""
        if self.current_epoch + 1 == self.warm_up_epochs:
            self.detector.body.train()
            self.keep_frozen()

    def on_fit_start(self) -> None:
        """Pass the class weights to the loss, and compare the normalisation with the published."""
        super().on_fit_start()
        self.loss.class_weights = self.class_weights
        if self.loss.note:
            rank_zero_info(self.loss.note)
        for name in ("mean", "std"):
            ours, theirs = getattr(self.data, name), getattr(self.detector, name)
            if {float(v) for v in (ours if isinstance(ours, list) else [ours])} != {theirs}:
                rank_zero_warn(
                    f"{self.detector.title} was published for images of {name} {theirs}, and these "
                    f"have {name} {ours}: set --data.{name} {theirs}"
                )
