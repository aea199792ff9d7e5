"""``tokd explain``: explain a run in space (Grad-CAM, RFAM) and in frequency (bands)."""

from tokd_lightning.explain.command import explain_command
from tokd_lightning.explain.options import Options
from tokd_lightning.explain.run import explain

__all__ = ["Options", "explain", "explain_command"]
