"""Face frames from videos: ``tokd prepare``.

Nothing is imported here, so that ``tokd detect`` finds faces without pandas and OpenCV;
``from tokd_lightning.prepare import prepare`` imports what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokd_lightning.prepare.plan import LAYOUTS, Layout
    from tokd_lightning.prepare.run import prepare

__all__ = ["LAYOUTS", "Layout", "prepare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "run" if name == "prepare" else "plan"
    return getattr(import_module(f"tokd_lightning.prepare.{module}"), name)
