"""Callback for best.ckpt, the weights selected by validation, also after the folder has moved."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tokd_lightning.errors import TokdError

STATE = "ModelCheckpoint"  # the key Lightning uses for its state, kept to resume earlier runs
VALIDATION = "validation"
_WITHOUT_TIES = ("auc", "ap")


class BestCheckpoint(ModelCheckpoint):
    """Keeps the first checkpoint with the highest validation metric (Sec. 5.2).

    Ties are broken by the higher AUC: at the majority baseline all accuracies are equal, and the
    first epoch is the least trained. Unlike Lightning's callback, it resumes after the run's folder
    was moved, and stores the metrics of the validation that selected the checkpoint.

    Args:
        folder: Folder of best.ckpt.
        monitor: The validation metric.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(folder, "best", monitor=monitor, mode="max", enable_version_counter=False)
        level, _, name = monitor.rpartition("/")
        ties = level.startswith("val/") and name not in _WITHOUT_TIES
        self.tie_break = f"{level}/auc" if ties else None
        self.validation: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        """Key of Lightning's own callback, so that runs of earlier versions resume."""
        return super().state_key.replace(type(self).__qualname__, STATE, 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the validation, if there was one: a run can end before the first."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Return whether the network just validated is the best so far."""
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
        """Load the state with its paths moved to the current folder.

        Raises:
            TokdError: The best.ckpt of the state is missing.
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
                f"{best} is missing, so that the run cannot be resumed unchanged: put it back, or "
                "--rerun sets the run aside and starts again"
            )
        super().load_state_dict(state)
        self.validation = dict(state_dict.get(VALIDATION) or {})
