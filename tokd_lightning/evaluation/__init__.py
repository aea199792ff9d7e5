"""``tokd evaluate``: any run on any data set, at frame and video level (Table 7)."""

from tokd_lightning.evaluation.command import evaluate_command
from tokd_lightning.evaluation.evaluate import Options, evaluate
from tokd_lightning.evaluation.open_run import Trained, open_run
from tokd_lightning.evaluation.robustness import measure_robustness

__all__ = ["Options", "Trained", "evaluate", "evaluate_command", "measure_robustness", "open_run"]
