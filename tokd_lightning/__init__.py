"""Two-in-one knowledge distillation for facial forgery detection, on PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokd_lightning.deploy.detector import Detector, load_detector

__version__ = "0.1.0"
__all__ = ["Detector", "__version__", "load_detector"]


def __getattr__(name: str) -> Any:  # imports nothing until it is needed
    if name not in ("Detector", "load_detector"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tokd_lightning.deploy import detector

    return getattr(detector, name)
