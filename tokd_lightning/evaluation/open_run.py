"""Loading of a run to evaluate from its folder."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokd_lightning.data.settings import settings
from tokd_lightning.errors import TokdError
from tokd_lightning.modules.trained import TrainedModule
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config, cell


class Trained(NamedTuple):
    """A run to evaluate: its folder, its configuration and the network in its checkpoint."""

    run: Run
    config: Config
    model: TrainedModule

    @property
    def fed(self) -> dict[str, Any]:
        """The arguments of its data module, including defaults."""
        return settings(self.config)


def open_run(path: str | Path) -> Trained:
    """Load a run.

    Args:
        path: Its folder, or the ``checkpoints/best.ckpt`` in it.

    Raises:
        TokdError: It is not a run folder, it has no best checkpoint yet, its files cannot be read,
            or its configuration does not match the checkpoint.
    """
    path = Path(path)
    run = Run(_folder(path))
    if not run.folder.is_dir():
        raise TokdError(f"{path} does not exist: name folders that tokd fit made, runs/NAME")
    file = run.folder / "fit.yaml"
    if not file.is_file():
        raise TokdError(f"{path} is not a run folder: name one that tokd fit made, runs/NAME")
    if not run.best.is_file():
        raise TokdError(f"{path} has no checkpoints/best.ckpt yet: tokd fit --config {file}")
    model = TrainedModule(run.best)
    try:
        config = run.config() or {}
        data = settings(config)
        ours = {key: data[key] for key in ("mean", "std")}
        ours["input_size"] = data["size"] if data["crop"] is None else data["crop"]
        cell(config)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
        raise TokdError(f"{file} is not the configuration of a run") from error
    for key, value in ours.items():
        if model.header[key] != value:
            raise TokdError(
                f"{file} does not belong to the checkpoint, which was trained on images of {key} "
                f"{model.header[key]} instead of {value}"
            )
    return Trained(run, config, model)


def _folder(path: Path) -> Path:
    if not path.is_file():
        return path
    if path.name != "best.ckpt" or path.absolute().parent.name != "checkpoints":
        raise TokdError(f"{path} is not a run: name its folder, or the checkpoints/best.ckpt in it")
    return path.parent.parent
