"""Distillation of a student from a frozen teacher, Sec. 4."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tokd_lightning.distillation import Distiller, RotationOptimizer
from tokd_lightning.errors import TokdError
from tokd_lightning.models import Shapes, StudentOutput, keep_maps_from
from tokd_lightning.models.detectors import SEEDS, Detector, DetectorLoss, extras_of
from tokd_lightning.models.rebuild import build_student, drawn_from
from tokd_lightning.modules.checkpoint import check_branches, check_input, under
from tokd_lightning.modules.compile import compile_in_place
from tokd_lightning.modules.detection import (
    DetectionModule,
    LRSchedulerCallable,
    OptimizerCallable,
)
from tokd_lightning.modules.partial import HEADER
from tokd_lightning.modules.rotation_step import loss_scale, optimizer_of, rotate, without_sync
from tokd_lightning.modules.shared_teacher import DEEPEST, FINEST, SharedTeacher
from tokd_lightning.modules.symptoms import warn_of_collapse, warn_of_idle_rotation

NO_RATE = 1e-12  # of the first learning rate: too small for a meaningful ratio
BEYOND = 10_000  # schedule steps to simulate beyond the end of a short run
NO_TEACHER = "this method distils a teacher: name its checkpoint with --model.teacher PATH"


class DistillModule(DetectionModule):
    """Trains a student with one distillation method, by manual optimization (Sec. 4.2).

    The teacher is loaded from its checkpoint, folded, frozen and held outside the module, so that
    neither DDP nor a student's checkpoint includes it. Test and prediction need only S_B and G_Sc
    (Sec. 4.3): they build neither the teacher nor the distiller.

    Args:
        distiller: Factory of the method, given the student's and the teacher's map shapes.
        optimizer: Of student and projectors, eta_S; Adam with 1e-4 on FF++ in Sec. 5.2.
        lr_scheduler: Scheduler of eta_S, StepLR(5, 0.1).
        rotation_optimizer: Of R_r and R_f, eta_R (Eq. 16).
        rotation_scheduler: Scheduler of eta_R. Sec. 4.3 requires eta_R to fall faster than eta_S.
        student: S_B: ``resnet18_thin``, ``resnet34_thin``, ``xception`` or any name of timm; or
            ``detectors.NAME``, a detector with maps, such as ``detectors.spsl``.
        pretrained: Start the student from ImageNet weights: True through timm, or a file's path.
        teacher: Checkpoint of the teacher; a method that needs none (Vanilla) ignores it.
        warm_up_epochs: Number of epochs in which only the classifier G_Sc learns (ADD's recipe: 3).
            S_B with its BN statistics, the method's own parameters and the rotations do not change;
            all losses are computed and logged, and the schedulers step, as later.
        student_options: Options of a student that is a detector.
        own_losses: Whether a student that is a detector also learns from its own losses, except
            the cross-entropy, which every method has.
        size: Side of the images in pixels, for students that are built for one size; the command
            line passes that of the data.
        **training: Other arguments of :class:`DetectionModule`. ``clip`` applies to student and
            projectors (rotations need none), ``seed`` to student and distiller, ``compile`` to the
            frozen teacher too but not to the distiller, ``tune`` to the student only.

    Attributes:
        shared_teacher: Loads the teacher; replaced before :meth:`setup` where students share one.
    """

    kind = "student"

    def __init__(
        self,
        distiller: Callable[[Shapes, Shapes], Distiller],
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable,
        rotation_optimizer: Callable[[Any], RotationOptimizer] = RotationOptimizer,
        rotation_scheduler: LRSchedulerCallable | None = None,
        student: str = "resnet18_thin",
        pretrained: bool | str = False,
        teacher: str | None = None,
        warm_up_epochs: int = 0,
        student_options: dict[str, Any] | None = None,
        own_losses: bool = False,
        size: int | None = None,
        **training: Any,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, **training)
        self.automatic_optimization = False
        self.make_distiller = distiller
        self.make_rotation_optimizer = rotation_optimizer
        self.make_rotation_scheduler = rotation_scheduler
        self.teacher_path = teacher
        self.warm_up_epochs = warm_up_epochs
        with drawn_from(self.seed):
            self.student: Any = build_student(student, pretrained, student_options, size)
        self.own_losses = own_losses
        if own_losses and not isinstance(self.student, Detector):
            raise TokdError(f"--model.own_losses: {student} has no losses of its own")
        self.own: DetectorLoss | None = None
        self.student.to(memory_format=torch.channels_last)
        self.hold_frozen()
        self.distiller: Distiller | None = None
        self.shared_teacher = SharedTeacher()
        self._teacher: SharedTeacher | None = None
        self._shapes: Shapes | None = None  # of the student's maps
        self._first_variance: dict[str, float] = {}

    @property
    def network(self) -> nn.Module:
        """S_B and G_Sc."""
        return cast(nn.Module, self.student)

    def needs(self, fitting: bool) -> set[str]:
        """Return what the student reads and, for a fit, what its own losses need."""
        own = self.student.make_loss().supervision if fitting and self.own_losses else ()
        return super().needs(fitting) | set(own)

    def setup(self, stage: str) -> None:
        """For training, load the teacher from its checkpoint and build the distiller."""
        super().setup(stage)
        if stage != "fit" or self.distiller is not None:
            return
        self.distiller = self._without_teacher() or self._with_teacher()
        self.distiller.class_weights = self.data.class_weights
        if self.own_losses:
            self.own = self.student.make_loss()
        keep_maps_from(self.student, min(self.distiller.taps, default=DEEPEST))

    def _without_teacher(self) -> Distiller | None:
        """Build the method without a teacher's maps; None if it needs a teacher."""
        try:
            distiller = self._distiller({})
        except (TokdError, LookupError):
            return None
        return None if distiller.needs_teacher else distiller

    def _with_teacher(self) -> Distiller:
        if self.teacher_path is None:
            raise TokdError(NO_TEACHER)
        with drawn_from(self.seed):
            loaded, shapes = self.shared_teacher.load(self.teacher_path, self.data.input_size)
        check_input(loaded.header, self.data)
        distiller = self._distiller(shapes)
        check_branches(distiller.reads, loaded.network)
        distiller.load_teacher_projectors(loaded.projectors)
        self.shared_teacher.keep_maps(distiller.taps)
        self._teacher = self.shared_teacher
        return distiller

    def _distiller(self, teacher: Shapes) -> Distiller:
        if self._shapes is None:
            keep_maps_from(self.student, FINEST)
            self._shapes = self.student.shapes(self.data.input_size)
        try:
            with drawn_from(self.seed):
                return self.make_distiller(self._shapes, teacher)
        except ValueError as error:
            raise TokdError(str(error)) from error

    # The step of Sec. 4.2

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Run one iteration of Sec. 4.2.

        1. The teacher computes its maps, without gradient.
        2. The student computes its logits and maps.
        3. The distiller computes its losses, through rotations, then projectors; L_S is their sum.
        4. One backward pass of L_S, then the step of student and projectors (eta_S).
        5. The step of R_r and R_f (eta_R, Eq. 16), from the gradients recorded in step 4.

        A batch may be split into ``accumulate`` parts; the steps of 4 and 5 follow the last one.
        Between two batches, the callback
        :class:`~tokd_lightning.training.callbacks.resume.LastCheckpoint` saves last.ckpt and
        handles SIGTERM and SIGUSR1.
        """
        optimizers, distiller = self._optimizers(), cast(Distiller, self.distiller)
        part = batch_idx % self.accumulate + 1
        label = batch["label"]  # (B,): 0 real, 1 fake
        image = batch["image"].contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        # The same frames at the teacher's quality, if it has another one. Students that share it
        # receive the same tensor, by which its output is known.
        better = batch.get("teacher_image", batch["image"])

        # 1. Per branch, maps (B, C, H / s, W / s) at strides s, without gradient.
        teacher = None
        if self._teacher is not None:
            same = image if better is batch["image"] else better
            teacher = self._teacher(better, same, extras_of(self._teacher.teacher, batch))

        # 2. Logits (B, 2) and maps (B, C, H / s, W / s); a detector's own losses.
        warming = self._warming_up()
        student, own = self._student(image, batch)

        # 3. Scalars by name, weighted: cross-entropy, rgb, frequency, ….
        losses = {**distiller(student, teacher, label), **own}
        loss = torch.stack(list(losses.values())).sum()

        # 4.
        if part == 1:
            optimizers[0].zero_grad()
            distiller.take_gradients()  # left over from parts that the end of an epoch cut off
        with (
            torch.autocast(image.device.type, enabled=False),  # keep fp32 products in fp32
            without_sync(self.trainer, part < self.accumulate),
        ):
            self.manual_backward(loss / self.accumulate)
        if part == self.accumulate:
            if warming:
                self._keep_all_but_the_classifier()
            scale = loss_scale(self.trainer)
            optimizers[0].step()
            skipped = warming or loss_scale(self.trainer) < scale

            # 5. Per branch, v^k (B, C * H / s * W / s) of all parts and processes.
            rotate(self, distiller, optimizers, skipped)
            if self.interval == "step":
                self._step_schedulers()

        self.log_training(loss, student.logits, batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        self.log_dict({f"maps/{name}": v for name, v in distiller.diagnostics().items()})

    def _student(
        self, image: Tensor, batch: dict[str, Any]
    ) -> tuple[StudentOutput, dict[str, Tensor]]:
        """Run the student; return its output, and its own losses if they are asked for."""
        if not isinstance(self.student, Detector):
            return self.student(image), {}
        batch = {**batch, "image": image, SEEDS: self.data.sample_seeds(batch)}
        if self.own is not None:
            self.own.epoch = self.current_epoch
            batch["image"] = self.own.before_step(self.student, batch)
        with self.data.seeded(batch):
            output = self.student(batch["image"], **extras_of(self.student, batch))
            losses = {} if self.own is None else self.own(self.student, output, batch)
        own = {f"own_{name}": loss for name, loss in losses.items() if name != "ce"}
        return StudentOutput(output.logits, output.maps), own

    def _warming_up(self) -> bool:
        """Return whether only the classifier learns; if so, keep the BN statistics of S_B fixed."""
        warming = self.current_epoch < self.warm_up_epochs
        if warming:
            self._body().eval()
        return warming

    def _keep_all_but_the_classifier(self) -> None:
        """Drop the gradients that DDP requires: an optimizer skips parameters without one."""
        for part in (self._body(), cast(Distiller, self.distiller)):
            for parameter in part.parameters():
                parameter.grad = None

    def _body(self) -> nn.Module:
        body = self.student.body if isinstance(self.student, Detector) else self.student.backbone
        return cast(nn.Module, body)

    # Optimizers

    def configure_optimizers(self) -> Any:
        """Return the optimizer of student and projectors, then that of R_r and R_f if learned."""
        distiller = cast(Distiller, self.distiller)
        parts = [self.student, distiller, *([] if self.own is None else [self.own])]
        trained = [p for part in parts for p in part.parameters()]
        first = self.optimizer_for(self.make_optimizer, trained, self.fused)
        optimizers: list[Optimizer] = [first]
        schedulers = [self.schedule(optimizers[0], self.make_scheduler)]
        if distiller.rotation is not None and distiller.rotation.learned:
            rotations = list(distiller.rotation.matrices().values())
            turn = optimizer_of(self.make_rotation_optimizer, rotations, "rotation_optimizer")
            optimizers.append(turn)
            if self.make_rotation_scheduler is not None:
                make = self.make_rotation_scheduler
                schedulers.append(self.schedule(optimizers[1], make, "rotation_scheduler"))
        return optimizers, schedulers

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _step_schedulers(self) -> None:
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            cast(LRScheduler, scheduler).step()

    def on_fit_start(self) -> None:
        """Move the teacher to the student's device and precision."""
        super().on_fit_start()
        if self._teacher is not None:
            self._teacher.teacher.to(next(self.student.parameters()))
            if self.compiled:
                compile_in_place(self._teacher.teacher)

    def on_train_start(self) -> None:
        """Simulate the schedules: check that they span the run; warn unless eta_R falls faster."""
        start, end = self._play(self.make_scheduler, "lr_scheduler")
        if len(self._optimizers()) == 1:
            return
        rotation = self._play(self.make_rotation_scheduler, "rotation_scheduler", number=1)
        if rotation[1] * start >= rotation[0] * end and not self._falls_later():
            rank_zero_warn(
                "eta_R / eta_S does not fall over this run, which Sec. 4.3 asks for: give "
                "rotation_scheduler a smaller factor than lr_scheduler"
            )

    def _falls_later(self) -> bool:
        """Return whether eta_R / eta_S first changes after the end of the run, and falls then."""
        rates = [optimizer.defaults["lr"] for optimizer in self.trainer.optimizers[:2]]
        if self.make_rotation_scheduler is None or not all(rates):
            return False
        student = self._stand_in(self.make_scheduler, rates[0], "lr_scheduler")
        rotation = self._stand_in(self.make_rotation_scheduler, rates[1], "rotation_scheduler")
        first, length = None, self._length()
        steps = int(length) if math.isfinite(length) else 0
        for step in range(steps + BEYOND):
            eta_s, eta_r = (of[0].param_groups[0]["lr"] for of in (student, rotation))
            if min(eta_s / rates[0], eta_r / rates[1]) < NO_RATE:
                return False
            first = first or eta_r / eta_s
            if not math.isclose(eta_r / eta_s, first, rel_tol=1e-6):
                return step >= steps and eta_r / eta_s < first
            try:
                for optimizer, scheduler in (student, rotation):
                    optimizer.step()
                    scheduler.step()
            except (ValueError, ArithmeticError):  # the schedule ended
                return False
        return False

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Store the initial batch variance of the condensed maps, the reference for a collapse."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if not self._first_variance:
            self._first_variance = self._variances()

    def on_train_epoch_end(self) -> None:
        """Step the schedulers of ``interval: epoch`` and warn of a method without effect."""
        if self.interval == "epoch":
            self._step_schedulers()
        if self.current_epoch + 1 == self.warm_up_epochs:
            self._body().train()
            self.keep_frozen()
        warn_of_collapse(self._variances(), self._first_variance)
        rotation = cast(Distiller, self.distiller).rotation
        first = self.current_epoch == self.warm_up_epochs
        if first and rotation is not None and rotation.learned:
            warn_of_idle_rotation(rotation)

    def _variances(self) -> dict[str, float]:
        scalars = cast(Distiller, self.distiller).diagnostics()
        return {name: float(v) for name, v in scalars.items() if name.startswith("variance_")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the initial variances, which a resumed run cannot measure."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[HEADER]["first_variance"] = self._first_variance

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only S_B and G_Sc if no training follows (Sec. 4.3)."""
        super().on_load_checkpoint(checkpoint)
        if self.distiller is None:
            state = under(checkpoint["state_dict"], "student.")
            checkpoint["state_dict"] = {f"student.{key}": value for key, value in state.items()}
        else:
            self._first_variance = checkpoint[HEADER]["first_variance"]
