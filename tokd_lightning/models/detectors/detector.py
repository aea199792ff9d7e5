"""Interface of all detectors of Tables 2 and 7: network, output and loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import Backbone
from tokd_lightning.models.objectives import MIN_NORM, NormalisedLinear
from tokd_lightning.models.outputs import Shapes, TeacherOutput
from tokd_lightning.models.probe import meta_copy

SEEDS = "seeds"
"""Entry of a training batch with a seed for each of its samples, for losses that draw."""


class DetectorOutput(NamedTuple):
    """Output of a detector.

    Attributes:
        logits: Class scores, ``(B, 2)``; class 1 is fake.
        maps: Stride -> feature map ``(B, C, h, w)``, as in
            :class:`~tokd_lightning.models.StudentOutput`; empty for detectors without such maps.
        auxiliary: Name -> tensor that its loss reads (mask, attention, reconstruction, embedding);
            empty in ``eval()`` unless :attr:`Detector.keeps_auxiliary` is set.
        frequency: The same as ``maps`` for the second branch of a detector with two.
    """

    logits: Tensor
    maps: dict[int, Tensor]
    auxiliary: dict[str, Tensor]
    frequency: dict[int, Tensor] = {}  # noqa: RUF012  # never modified


class Detector(nn.Module, ABC):
    """A network that tells real from forged faces by two logits.

    A subclass sets the class attributes and implements :meth:`forward`. All its arguments have
    defaults; ``pretrained`` is one of them.

    Args:
        pretrained: Kept out of ``spec``, which rebuilds the network without downloads.
        **options: The other arguments of the subclass.

    Attributes:
        name: Name in run names, on the command line and in files.
        title: Name in tables.
        citation: Authors and venue.
        needs: What training needs beyond frames and labels: ``mask``, ``landmarks``, ``clip``.
        reads: Batch entries that :meth:`forward` takes by name, in evaluation too.
        reads_in_training: Further entries that it takes in training only.
        size: Side of the published input in pixels.
        multiple: The side of an image must be a multiple of it.
        mean: Mean of the published normalisation of images in [0, 1].
        std: Its standard deviation.
        published: Published parameters in millions; None if unknown.
        unsettled: What the publication leaves open and is an option here, in one line.
        branches: Branches that it has as a teacher.
        refusal: Why it can be neither teacher nor student; empty if it can.
        unexported: Why it cannot be exported; empty if it can.
        has_heat_map: Whether :meth:`heat_map` has places.
        keeps_auxiliary: Whether auxiliary outputs are also returned in ``eval()``.
        spec: ``detector`` and the arguments that rebuild the network, for checkpoints.
        started_from: Its initial weights: True (timm's), False (random) or the path of a file.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    reads: tuple[str, ...] = ()
    reads_in_training: ClassVar[tuple[str, ...]] = ()
    size: int = 299
    multiple: ClassVar[int] = 1
    mean: ClassVar[float] = 0.5
    std: ClassVar[float] = 0.5
    published: ClassVar[float | None] = None
    unsettled: ClassVar[str] = ""
    branches: ClassVar[tuple[str, ...]] = ("rgb",)
    refusal: ClassVar[str] = ""
    unexported: str = ""
    has_heat_map: ClassVar[bool] = False
    keeps_auxiliary: bool = False

    def __init__(self, pretrained: bool | str = False, **options: Any) -> None:
        super().__init__()
        shipped = type(self).__module__.startswith(f"{__package__}.")
        name = self.name if shipped else f"{type(self).__module__}.{type(self).__qualname__}"
        self.spec: dict[str, Any] = {"detector": name, **options, "pretrained": False}
        self.started_from = pretrained

    @abstractmethod
    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, H, W)``.

        Args:
            image: The images.
            **extras: Batch entries named in :attr:`reads`; may be missing.
        """

    def make_loss(self) -> "DetectorLoss":
        """Return the loss of the publication, with its defaults; the cross-entropy here."""
        return CrossEntropy(self)

    @property
    def body(self) -> nn.Module:
        """The part that ImageNet weights initialise, which may be frozen at first."""
        return self

    def check_size(self, size: int) -> None:
        """Check the side of the images.

        Raises:
            TokdError: The network does not take images of this side.
        """
        if size % self.multiple:
            near = max(self.multiple, round(size / self.multiple) * self.multiple)
            raise TokdError(
                f"{self.title} takes images whose side is a multiple of {self.multiple}, not "
                f"{size} px: set --data.size or --data.crop to {near}"
            )

    @torch.no_grad()
    def shapes(self, size: int) -> Shapes:
        """Return stride -> ``(C, h, w)`` of the maps for images of ``size`` x ``size`` pixels."""
        self.check_size(size)
        weight = next(self.parameters())
        image = torch.empty(1, 3, size, size, dtype=weight.dtype, device="meta")
        maps: dict[int, Tensor] = meta_copy(self)(image).maps
        return {stride: (m.shape[1], m.shape[2], m.shape[3]) for stride, m in maps.items()}

    def heat_map(self, output: DetectorOutput) -> Tensor:
        """Return a map ``(B, h, w)`` whose mean is the logit of fake minus that of real.

        That is the class activation map of a head that is linear in the mean of a map; other heads
        have one value, without a place.
        """
        return (output.logits[:, 1] - output.logits[:, 0])[:, None, None]

    def features(self, output: DetectorOutput) -> Tensor:
        """Return the features ``(B, C)`` that a linear classifier reads.

        Raises:
            TokdError: The detector has no such features.
        """
        raise TokdError(f"{self.title} has no pooled features before a linear classifier")

    def panels(self, output: DetectorOutput) -> dict[str, Tensor]:
        """Return title -> map ``(B, h, w)`` in [0, 1] for pictures, from auxiliary outputs."""
        return {}

    def keeps(self) -> bool:
        """Return whether to return auxiliary outputs: in training, or on demand."""
        return self.training or self.keeps_auxiliary


class PooledDetector(Detector):
    """Detector with a linear classifier on the spatial mean of its backbone's last map.

    Attributes:
        backbone: The backbone.
        classifier: The linear layer.
    """

    has_heat_map = True
    backbone: Backbone
    classifier: nn.Linear

    @property
    def body(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def features(self, output: DetectorOutput) -> Tensor:
        """Return the mean of the map at stride 32."""
        return output.maps[32].mean(dim=(2, 3))

    def classify(self, maps: dict[int, Tensor]) -> DetectorOutput:
        """Classify the mean of the map at stride 32."""
        return DetectorOutput(self.classifier(maps[32].mean(dim=(2, 3))), maps, {})

    def heat_map(self, output: DetectorOutput) -> Tensor:
        """Return the class activation map of the map at stride 32."""
        return activation_map(output.maps[32], self.classifier)


def activation_map(feature: Tensor, classifier: nn.Linear) -> Tensor:
    """Return the class activation map for fake minus real, ``(B, h, w)``.

    Args:
        feature: ``(B, C, h, w)``, whose spatial mean is classified.
        classifier: Layer of weight ``(2, C)``; it may normalise that mean.
    """
    weight, bias = classifier.weight, classifier.bias
    if isinstance(classifier, NormalisedLinear):
        length = feature.mean(dim=(2, 3), keepdim=True).norm(dim=1, keepdim=True)
        feature = feature / length.clamp_min(MIN_NORM)
    towards_fake = (weight[1] - weight[0])[None, :, None, None]
    return (feature * towards_fake).sum(1) + (bias[1] - bias[0])


class DetectorLoss(nn.Module, ABC):
    """Loss of a detector; its state is in buffers, which ``spec`` and export leave out.

    Args:
        detector: The network; a subclass may read its sizes, and must not keep it.

    Raises:
        ValueError: It is the loss of another detector.

    Attributes:
        of: Name of the detector whose auxiliary outputs it reads; empty if any will do.
        class_weights: Class weights ``(2,)`` of the cross-entropy; None weights both equally.
        epoch: Number of the current epoch, from 0; set by the training code.
        label_smoothing: That of the cross-entropy; set by the training code.
        smooths: Whether it minimises a cross-entropy.
    """

    smooths: ClassVar[bool] = True
    of: ClassVar[str] = ""
    class_weights: Tensor | None

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if self.of and detector.name != self.of:
            raise ValueError(
                f"{type(self).__name__} is the loss of {self.of}, not of {detector.name}: leave "
                "--model.loss out, or take CrossEntropy"
            )
        self.epoch = 0
        self.label_smoothing = 0.0
        self.register_buffer("class_weights", None, persistent=False)

    @property
    def supervision(self) -> tuple[str, ...]:
        """Entries that it needs in a training batch besides image and label."""
        return ()

    @property
    def note(self) -> str:
        """What is switched off, in one line; empty if nothing is."""
        return ""

    def before_step(self, detector: Detector, batch: Mapping[str, Any]) -> Tensor:
        """Return the images of a training batch, changed if the method does so.

        Args:
            detector: The network.
            batch: With ``image``, ``label`` and, for random numbers, :data:`SEEDS`.
        """
        return cast(Tensor, batch["image"])

    @abstractmethod
    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the named, weighted losses, whose sum is minimised.

        Args:
            detector: The network; the loss may run it again.
            output: Its output for the batch.
            batch: With ``image``, ``label`` and, if available, ``mask`` and :data:`SEEDS`.
        """

    def cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean cross-entropy in at least float32."""
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = None if self.class_weights is None else self.class_weights.to(wide)
        smoothing = self.label_smoothing
        return functional.cross_entropy(wide, label, weights, label_smoothing=smoothing)


class CrossEntropy(DetectorLoss):
    """Only the cross-entropy."""

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return ``{"ce": …}``."""
        return {"ce": self.cross_entropy(output.logits, batch["label"])}


class DetectorTeacher(nn.Module):
    """A trained detector as a teacher of one branch, or of the branches that it has.

    Args:
        detector: The detector.

    Raises:
        TokdError: It has no maps to distil.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if detector.refusal:
            raise TokdError(f"{detector.title} cannot be a teacher: {detector.refusal}")
        self.detector = detector
        self.branches = detector.branches

    def forward(self, image: Tensor, **extras: Tensor) -> TeacherOutput:
        """Return logits and maps of normalised images ``(B, 3, H, W)``."""
        output = self.detector(image, **extras)
        return TeacherOutput(output.logits, output.maps, output.frequency)

    def shapes(self, size: int) -> Shapes:
        """Return the shapes of the maps for images of ``size`` x ``size`` pixels."""
        return self.detector.shapes(size)


def extras_of(network: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries of a batch that a network's ``forward`` takes besides the image."""
    owner = network.detector if isinstance(network, DetectorTeacher) else network
    names = getattr(owner, "reads", ())
    if owner.training:
        names = (*names, *getattr(owner, "reads_in_training", ()))
    return {key: batch[key] for key in names if key in batch}


def generators(batch: Mapping[str, Any], device: torch.device | str = "cpu") -> list[Any]:
    """Return a random generator for each sample of a training batch, from its :data:`SEEDS`."""
    seeds: Sequence[int] = batch[SEEDS]
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]
