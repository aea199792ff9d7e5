"""``tokd evaluate``: any run on any data set, at frame and video level (Table 7)."""

from tokd_lightning.evaluate.command import evaluate_command
from tokd_lightning.evaluate.evaluating import Options, evaluate
from tokd_lightning.evaluate.robustness import measure_robustness
from tokd_lightning.evaluate.run import Trained, open_run

__all__ = ["Options", "Trained", "evaluate", "evaluate_command", "measure_robustness", "open_run"]
