"""Folder of the run of a configuration."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import EVALUATION, Config, differences, run_name
from tokd_lightning.runs.shipped import as_yaml, reference

_RESOLVED: dict[tuple[str, str], Config] = {}  # by the parser's name and the text


def folder_of(
    parser: LightningArgumentParser, config: Any, resolved: Config, fitting: bool
) -> Path:
    """Return a run's folder, named by its differences from the shipped experiment.

    Args:
        parser: The subcommand's.
        config: What was parsed: ``config``, ``runs``, ``name``, ``rerun``.
        resolved: The resolved configuration.
        fitting: Whether it is a fit. A test or prediction whose own folder has no checkpoint
            takes that of the fit that differs only in options free to a test, such as
            ``data.batch_size``.
    """
    runs, files = Path(config.runs), [Path(str(path)) for path in config.get("config") or []]
    if files and (files[0].parent / "fit.yaml").is_file():
        return files[0].parent  # the configuration that a run has saved names that run
    if config.name:
        return runs / str(config.name)
    file = files[0] if files else None
    own = None if file is None else _resolved(parser, file)
    experiment = own
    if (name := reference(resolved, file)) is not None:
        experiment = _resolved(parser, as_yaml(name))
    folder = runs / run_name(resolved, experiment)
    earlier, again = runs / run_name(resolved, own), bool(config.get("rerun"))
    if not folder.exists() and earlier != folder and not again and _is_of(resolved, earlier):
        rank_zero_info(f"{earlier} holds this configuration: it was named by an earlier version")
        return earlier
    if not fitting and not Run(folder).best.is_file():
        # A test may be given a smaller batch or on_error; the fit went without.
        trained = runs / run_name(resolved, experiment, EVALUATION)
        return trained if Run(trained).best.is_file() else folder
    return folder


def _resolved(parser: LightningArgumentParser, given: Path | str) -> Config:
    """Resolve an experiment without options, once for all fits of a process that name it."""
    text = given
    if isinstance(given, Path):
        text = f"{given.resolve()}\n{given.read_text()}"
    key = str(parser.prog), str(text)
    if key not in _RESOLVED:
        _RESOLVED[key] = resolve(parser, parser.parse_args(["--config", str(given)]))
    return _RESOLVED[key]


def resolve(parser: LightningArgumentParser, config: Any) -> Config:
    """Return a parsed configuration as plain values, links between its options included."""
    text = parser.dump(config, skip_link_targets=False)
    return dict(yaml.safe_load(text))


def _is_of(resolved: Config, folder: Path) -> bool:
    """Whether a folder holds a run of this configuration."""
    try:
        earlier = Run(folder).config()
    except TokdError:  # whatever it was, it is not known to be this one
        return False
    left_open = resolved["trainer"].get("precision") is None
    free = {"trainer.precision"} if left_open else set()
    return earlier is not None and set(differences(resolved, earlier)) <= free
