"""The detectors of Tables 2 and 7: plain modules, usable without Lightning."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors.addnet import AddNet
from tokd_lightning.models.detectors.attention_losses import MultiAttLoss
from tokd_lightning.models.detectors.detector import (
    SEEDS,
    CrossEntropy,
    Detector,
    DetectorLoss,
    DetectorOutput,
    DetectorTeacher,
    extras_of,
)
from tokd_lightning.models.detectors.f3net import F3Net
from tokd_lightning.models.detectors.facexray import FaceXray, FaceXrayLoss
from tokd_lightning.models.detectors.multiatt import MultiAtt
from tokd_lightning.models.detectors.multitask import MultiTask, MultiTaskLoss
from tokd_lightning.models.detectors.rfm import RFM, RFMLoss
from tokd_lightning.models.detectors.spsl import SPSL
from tokd_lightning.models.detectors.twobranch import RadiusLoss, TwoBranch

__all__ = [
    "DETECTORS",
    "RFM",
    "SEEDS",
    "SPSL",
    "AddNet",
    "CrossEntropy",
    "Detector",
    "DetectorLoss",
    "DetectorOutput",
    "DetectorTeacher",
    "F3Net",
    "FaceXray",
    "FaceXrayLoss",
    "MultiAtt",
    "MultiAttLoss",
    "MultiTask",
    "MultiTaskLoss",
    "RFMLoss",
    "RadiusLoss",
    "TwoBranch",
    "build_detector",
    "detector_class",
    "extras_of",
]

_KINDS = (MultiTask, TwoBranch, SPSL, RFM, AddNet, FaceXray, F3Net, MultiAtt)
DETECTORS: dict[str, type[Detector]] = {kind.name: kind for kind in _KINDS}
"""Name -> class, in the order of ``tokd detectors``."""


def detector_class(name: str) -> type[Detector]:
    """Return the class of a detector by its name, or by ``module.Class`` for a custom one.

    Raises:
        TokdError: No detector has that name.
    """
    if name in DETECTORS:
        return DETECTORS[name]
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(import_module(module), kind)
    except Exception as error:  # the user's file may raise anything
        raise TokdError(
            f"no detector is named {name}: choose from {', '.join(DETECTORS)}, or name a class, "
            "module.Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Detector)):
        raise TokdError(f"{name} is not a subclass of tokd_lightning.models.detectors.Detector")
    return found


def build_detector(spec: Mapping[str, Any]) -> Detector:
    """Build a detector from the ``spec`` of a checkpoint, without its weights.

    Raises:
        TokdError: No detector has that name, or it does not have these options.
    """
    options = dict(spec)
    kind: Any = detector_class(str(options.pop("detector")))
    try:
        built: Detector = kind(**options)
    except (TypeError, ValueError) as error:
        raise TokdError(f"{kind.title}: {error}") from error
    return built
