"""Run folders: the name of a run, what it was made from, and its results."""

import contextlib
import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokd_lightning.errors import TokdError

Config = dict[str, Any]

# Where things lie, what machine runs them, and what a fit does not use: no part of a run's name or
# of its configuration hash.
_PLACE = (
    "config",
    "runs",
    "rerun",
    "reuse",
    "log",
    "pictures",
    "ckpt_path",
    "return_predictions",
    "verbose",
    "weights_only",
    "data.init_args.root",
    "data.init_args.splits",
    "data.init_args.num_workers",
    "model.init_args.teacher",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.logger",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.num_sanity_val_steps",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
)
# What a test may do otherwise than the fit that it belongs to.
EVALUATION = (
    "data.init_args.on_error",
    "data.init_args.batch_size",
    "trainer.precision",
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "monitor",
)
# Said by the name itself.
_NAMED = (
    "seed_everything",
    "model.init_args.seed",
    "data.init_args.seed",
    "data.init_args.name",
    "data.init_args.quality",
    "model.init_args.student",
    "model.init_args.branches",
    "model.init_args.distiller.class_path",
    "model.init_args.distiller.init_args.branches",
)


class Cell(NamedTuple):
    """What a run is in the tables of the paper; ``role`` is ``teacher`` or ``student``."""

    data: str
    role: str
    backbone: str
    method: str
    branches: str
    seed: int


def cell(config: Config) -> Cell:
    """Read the cell off a resolved configuration."""
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    place = f"{data['name']}-{data['quality']}"
    seed = int(config["seed_everything"])
    if "distiller" not in model:
        branches = str(model.get("branches", "both"))
        return Cell(place, "teacher", str(model["backbone"]), "teacher", branches, seed)
    distiller = model["distiller"]
    options = _with_defaults(distiller)
    method = distiller["class_path"].rsplit(".", 1)[-1].lower()
    branches = options.get("branches", "none")
    return Cell(place, "student", str(model["student"]), method, branches, seed)


def run_name(config: Config, experiment: Config | None, without: tuple[str, ...] = ()) -> str:
    """Name a run as a pure function of its cell.

    ``<data>-<quality>_<student>_<method>-<branches>_s<seed>``, teachers
    ``<data>-<quality>_teacher-<branches>_s<seed>``. What differs from the experiment file outside
    the cell (and is no matter of place, such as ``data.root``) appends six digits of a hash.

    Args:
        config: The resolved configuration of the run.
        experiment: The resolved configuration of the experiment file alone; None counts as empty.
        without: Keys whose differences do not count.
    """
    it = cell(config)
    what = "teacher" if it.role == "teacher" else f"{it.backbone}_{it.method}"
    name = f"{it.data}_{what}-{it.branches}_s{it.seed}"
    ours, theirs = (_flat(c, _PLACE + _NAMED + without) for c in (config, experiment or {}))
    changed = {k: v for k, v in ours.items() if k not in theirs or theirs[k] != v}
    changed |= {f"-{key}": None for key in theirs if key not in ours}
    name = re.sub(r"[^\w.-]+", "-", name)
    return f"{name}-{_digest(changed)[:6]}" if changed else name


def config_hash(config: Config) -> str:
    """Hash a resolved configuration, less what only says where things lie."""
    return _digest(_flat(config, _PLACE))


class Run:
    """One folder ``runs/<name>``: configuration per stage, curves, checkpoints, results.

    Args:
        folder: The run's folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def best(self) -> Path:
        """The checkpoint that validation selected."""
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def results(self) -> dict[str, Any] | None:
        """``metrics.json``, or None where the run is not finished.

        Raises:
            TokdError: The file cannot be read.
        """
        path = self.folder / "metrics.json"
        if not path.is_file():
            return None
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise TokdError(f"{path} cannot be read: remove it, or fit with --rerun") from error

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write ``metrics.json`` whole or not at all."""
        text = json.dumps(_without_nan(results), indent=2, sort_keys=False) + "\n"
        write_atomically(self.folder / "metrics.json", text)

    def save_config(self, stage: str, config: Config) -> None:
        """Write the resolved configuration of a stage, ``<stage>.yaml``."""
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_atomically(self.folder / f"{stage}.yaml", text)

    def begin(self, config: Config, inputs: Mapping[str, str]) -> None:
        """Write what a fit starts from: its configuration, and the hashes of data and teacher."""
        write_atomically(self.folder / "inputs.json", json.dumps(inputs, indent=2) + "\n")
        self.save_config("fit", config)

    def inputs(self) -> dict[str, str] | None:
        """The hashes of what the run was started from, or None."""
        path = self.folder / "inputs.json"
        return dict(json.loads(path.read_text())) if path.is_file() else None

    def config(self, stage: str = "fit") -> Config | None:
        """The resolved configuration that a stage was run with, or None."""
        path = self.folder / f"{stage}.yaml"
        return dict(yaml.safe_load(path.read_text())) if path.is_file() else None

    def set_aside(self) -> Path | None:
        """Move the folder out of the way, to ``<name>.old-<n>``: finished work is never lost."""
        if not self.folder.exists():
            return None
        taken = (self.folder.with_name(f"{self.folder.name}.old-{n}") for n in range(1, 10_000))
        target = next(path for path in taken if not path.exists())
        self.folder.rename(target)
        return target


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        TokdError: The folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TokdError(f"{path} cannot be written: {error.strerror or error}") from error


def differences(ours: Config, theirs: Config) -> list[str]:
    """Name the keys, matters of place aside, in which two resolved configurations differ."""
    a, b = _flat(ours, _PLACE), _flat(theirs, _PLACE)
    return sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))


def _flat(config: Config, without: tuple[str, ...]) -> Config:
    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if any(key == skip or key.startswith(f"{skip}.") for skip in without):
            return
        if isinstance(value, dict):
            if "class_path" in value:
                value = value | {"init_args": _with_defaults(value)}
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}" if key else str(name))
        else:
            yield key, value

    return dict(walk(config, ""))


def _with_defaults(spec: Config) -> Config:
    """Arguments of a ``class_path`` block, its class's defaults filled in where they are plain."""
    given = dict(spec.get("init_args") or {})
    module, _, name = spec["class_path"].rpartition(".")
    try:
        signature = inspect.signature(getattr(import_module(module), name))
    except (ImportError, AttributeError, ValueError, TypeError):
        return given
    plain = (str, int, float, bool, type(None))
    defaults = {
        key: parameter.default
        for key, parameter in signature.parameters.items()
        if isinstance(parameter.default, plain)
    }
    return defaults | given


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
