"""The frozen teacher of one student, or of several that take turns on the same images."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from tokd_lightning.models import DualBranchTeacher, Shapes, TeacherOutput, frozen, keep_maps_from
from tokd_lightning.models.detectors import DetectorTeacher
from tokd_lightning.modules.checkpoint import TrainedTeacher, load_teacher

FINEST = 4  # stride of the finest maps
DEEPEST = 32  # stride of the last maps


class SharedTeacher:
    """Frozen teacher outside the state dict, DDP and changes of train/eval mode.

    It is loaded and folded for its first student. If there are several, it returns the finest maps
    that one of them reads, and remembers the output for the latest images: students that take
    turns on one batch cost one forward pass. Nobody may change the output in place.

    Args:
        several: Whether there are several students.

    Attributes:
        teacher: The network, after :meth:`load`.
    """

    teacher: DualBranchTeacher | DetectorTeacher

    def __init__(self, several: bool = False) -> None:
        self._several = several
        self._loaded: TrainedTeacher | None = None
        self._shapes: Shapes = {}
        self._finest = DEEPEST
        self._batch: Tensor | None = None
        self._output: TeacherOutput | None = None

    def load(self, path: str, size: int) -> tuple[TrainedTeacher, Shapes]:
        """Return the frozen teacher of a checkpoint, and the shapes of all its maps.

        Args:
            path: The checkpoint, the same for all students.
            size: Pixels along both sides of the images, the same for all students.
        """
        if self._loaded is None:
            loaded = load_teacher(path)
            keep_maps_from(loaded.network, FINEST)
            self._shapes = loaded.network.shapes(size)
            self.teacher = frozen(loaded.network)
            keep_maps_from(self.teacher, self._finest)
            self._loaded = loaded._replace(network=self.teacher)
        return self._loaded, self._shapes

    def keep_maps(self, taps: Iterable[int]) -> None:
        """Return the maps at these strides from now on, besides those of other students."""
        self._finest = min(self._finest, *taps, DEEPEST)
        keep_maps_from(self.teacher, self._finest)

    def __call__(
        self,
        batch: Tensor,
        images: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> TeacherOutput:
        """Return logits and maps, without gradient.

        Args:
            batch: The tensor that all students receive, by which the output is remembered.
            images: The same images ``(B, 3, H, W)`` in another memory format, if there are any.
            extras: Further arguments of a detector's ``forward``.
        """
        if self._output is None or batch is not self._batch:
            self._batch = self._output = None  # before the next is made: memory for one of them
            with torch.no_grad():
                images = batch if images is None else images
                images = images.contiguous(memory_format=torch.channels_last)
                output = cast(TeacherOutput, self.teacher(images, **(extras or {})))
            if not self._several:
                return output
            self._batch, self._output = batch, output
        return self._output
