"""best.ckpt: the weights that validation selected, wherever the run's folder is."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tokd_lightning.errors import TokdError

STATE = "ModelCheckpoint"  # what Lightning calls its state, by which earlier runs are resumed
VALIDATION = "validation"
_WITHOUT_TIES = ("auc", "ap")


class BestCheckpoint(ModelCheckpoint):
    """Keeps the first of the highest by a metric of the validation (Sec. 5.2).

    Of equal accuracies the higher AUC counts: at the majority baseline all epochs are equal, and
    the first is the least trained. Unlike Lightning's own, it goes on after the run's folder was
    moved, and remembers the metrics of the validation that selected the checkpoint.

    Args:
        folder: Where best.ckpt goes.
        monitor: The metric.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)
        level, _, name = monitor.rpartition("/")
        ties = level.startswith("val/") and name not in _WITHOUT_TIES
        self.tie_break = f"{level}/auc" if ties else None
        self.validation: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        """The key of Lightning's own callback, so that runs of earlier versions go on."""
        return super().state_key.replace(type(self).__qualname__, STATE, 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the validation, if there was one: a run can be ended before."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Decide whether the network just validated is the best so far."""
        better = super().check_monitor_top_k(trainer, current) or self._wins_tie(trainer, current)
        if better:
            found = trainer.callback_metrics.items()
            self.validation = {key: float(v) for key, v in found if key.startswith("val/")}
        return better

    def _wins_tie(self, trainer: pl.Trainer, current: Tensor | None) -> bool:
        best = self.validation.get(self.tie_break or "")
        if current is None or best is None or self.best_model_score is None:
            return False
        equal = float(current) == float(self.best_model_score)
        higher = float(trainer.callback_metrics.get(self.tie_break or "", best)) > best
        return bool(trainer.strategy.reduce_boolean_decision(equal and higher))

    def state_dict(self) -> dict[str, Any]:
        """Add the metrics of the validation that selected best.ckpt."""
        return super().state_dict() | {VALIDATION: dict(self.validation)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state with the paths of where the folder is now.

        Raises:
            TokdError: There was a best.ckpt and it is gone.
        """
        here = str(self.dirpath)

        def moved(path: str) -> str:
            return str(Path(here, Path(path).name)) if path else path

        state = state_dict | {
            "dirpath": self.dirpath,
            "best_k_models": {moved(p): v for p, v in state_dict["best_k_models"].items()},
        }
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = moved(state_dict.get(key) or "")
        best = Path(state["best_model_path"])
        if state["best_model_path"] and not best.is_file():
            raise TokdError(
                f"{best} is missing, so that the run cannot go on as it was: put it back, or "
                "--rerun sets the run aside and starts again"
            )
        super().load_state_dict(state)
        self.validation = dict(state_dict.get(VALIDATION) or {})
