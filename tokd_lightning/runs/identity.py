"""Identity of a run: its name, its configuration hash and its recipe.

Three values identify a run, each for another purpose:

- The **name** (:func:`run_name`) is its folder, ``ffpp-c40_resnet18_thin_tokd-both_s0``: the cell
  (data, network, method, branches, seed) and, as six digits of a hash, all other differences from
  the shipped experiment of that cell. The cells of a table compute their names from their options
  (:func:`name_of`) and pass them with ``--name``; any other ``tokd fit`` computes its own.
- The **configuration hash** (:func:`config_hash`) identifies the resolved configuration: files,
  options and the defaults of all classes. ``metrics.json`` records it. To compute it, the classes
  must be imported.
- The **recipe** (:func:`recipe`) is the requested configuration: files and options as given,
  without the defaults of classes, which belong to the source code. It needs no import of torch, so
  that ``tokd table`` compares all cells of a table with their runs in milliseconds.

None of the three depends on locations, hardware and logging (:data:`PLACE`), nor do name and hash
on options that earlier versions lack while they are at their defaults (:data:`ADDED`).
"""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokd_lightning.errors import TokdError, reason
from tokd_lightning.runs.recipe import recipe_file

Config = dict[str, Any]
DETECTOR = "detector"
"""Role of a run that trains a detector of Table 2."""

_CLASSES = {"model", "data", "distiller", "detector"}  # their name alone is a class path
# LibYAML's, which most builds of PyYAML have, reads the same ten times as fast.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Locations, hardware and options a fit does not use: not part of a run's name or of its
# configuration hash.
PLACE = (
    "config",
    "runs",
    "name",
    "rerun",
    "reuse",
    "checkpoint_every",
    "log",
    "pictures",
    "ckpt_path",
    "return_predictions",
    "verbose",
    "weights_only",
    "data.init_args.root",
    "data.init_args.splits",
    "data.init_args.landmarks",
    "data.init_args.num_workers",
    "model.init_args.teacher",
    "model.init_args.checkpointing",
    "model.init_args.size",  # that of the data
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
# Options that version 0.1 did not have: at these values they are not part of a hash either, so that
# runs of earlier versions keep theirs.
ADDED: Config = {
    "model.init_args.tune": "all",
    "model.init_args.layer_decay": 1.0,
    "model.init_args.ema": None,
    "model.init_args.label_smoothing": 0.0,
    "model.init_args.normalised_head": False,
    "model.init_args.alignment": 0.0,
    "model.init_args.uniformity": 0.0,
    "data.init_args.leave_out": None,
    "data.init_args.degrade": None,
    "data.init_args.degrade_options": None,
    "data.init_args.degrade_for": None,
}
# Options in which a test may differ from its fit.
EVALUATION = (
    "data.init_args.on_error",
    "data.init_args.batch_size",
    "trainer.precision",
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "monitor",
)
# Data options that a test does not depend on, or that the data's hash already covers.
_NOT_MEASURED = (
    *("batch_size", "on_error", "balance", "samples_per_epoch", "augmentation", "seed"),
    *("teacher_quality", "max_unpaired", "manifest", "folder", "methods", "apart"),
    *("val_fraction", "val_seed", "frames_per_video", "forge", "forge_options"),
    *("leave_out", "degrade", "degrade_options", "degrade_for"),
)
# Already part of the name itself.
NAMED = (
    "seed_everything",
    "model.init_args.seed",
    "data.init_args.seed",
    "data.init_args.name",
    "data.init_args.quality",
    "model.init_args.student",
    "model.init_args.branches",
    "model.init_args.recipe",
    "model.init_args.detector.class_path",
    "model.init_args.distiller.class_path",
    "model.init_args.distiller.init_args.branches",
)


class Cell(NamedTuple):
    """A run's cell in the tables of the paper.

    ``role`` is ``teacher``, ``student`` or ``detector``; for a detector, ``method`` is its name and
    ``branches`` the training recipe.
    """

    data: str
    role: str
    backbone: str
    method: str
    branches: str
    seed: int


def cell(config: Config) -> Cell:
    """Return the cell of a resolved configuration."""
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    place = f"{data['name']}-{data['quality']}"
    seed = int(config["seed_everything"])
    if "detector" in model:
        kind, options = _class(model["detector"]), _with_defaults(model["detector"])
        name = str(getattr(kind, "name", model["detector"]["class_path"].rpartition(".")[2]))
        recipe = str(model.get("recipe", "own"))
        return Cell(place, DETECTOR, str(options.get("backbone", name)), name, recipe, seed)
    if "distiller" not in model:
        branches = str(model.get("branches", "both"))
        return Cell(place, "teacher", str(model["backbone"]), "teacher", branches, seed)
    distiller = model["distiller"]
    branches = _with_defaults(distiller).get("branches", "none")
    return Cell(place, "student", str(model["student"]), _method(distiller), branches, seed)


def _method(distiller: Config) -> str:
    """Return the method of a ``class_path`` block: its class's ``method``, or the class's name."""
    name = distiller["class_path"].rsplit(".", 1)[-1].lower()
    return str(getattr(_class(distiller), "method", name))


def run_name(config: Config, experiment: Config | None, without: tuple[str, ...] = ()) -> str:
    """Return the name of a run, a pure function of its cell and its other differences.

    ``<data>-<quality>_<student>_<method>-<branches>_s<seed>``, teachers
    ``<data>-<quality>_teacher-<branches>_s<seed>``, detectors
    ``<data>-<quality>_<detector>-<recipe>_s<seed>``. Differences from the experiment file outside
    the cell (except locations such as ``data.root``) append six digits of a hash. If the method is
    not the experiment's, it is compared with its own defaults.

    Args:
        config: The resolved configuration of the run.
        experiment: The resolved configuration of the experiment file only; None counts as empty.
        without: Keys whose differences are ignored.
    """
    skipped = PLACE + NAMED + without
    ours, theirs = _flat(config, skipped), _flat(_of_method(experiment or {}, config), skipped)
    changed = {k: v for k, v in ours.items() if k not in theirs or theirs[k] != v}
    changed |= {f"-{key}": None for key in theirs if key not in ours}
    return name_of(cell(config), changed)


def name_of(it: Cell, changed: Config) -> str:
    """Return the name of a run from its cell and its other differences from its experiment file.

    Args:
        it: The cell.
        changed: Full key of a resolved configuration -> value.
    """
    what = it.method if it.role in ("teacher", DETECTOR) else f"{it.backbone}_{it.method}"
    name = re.sub(r"[^\w.-]+", "-", f"{it.data}_{what}-{it.branches}_s{it.seed}")
    return f"{name}-{_digest(changed)[:6]}" if changed else name


def _of_method(experiment: Config, config: Config) -> Config:
    """Return an experiment with its method replaced by that of a configuration, if they differ."""
    theirs, ours = (c.get("model", {}).get("init_args", {}) for c in (experiment, config))
    there, here = theirs.get("distiller"), ours.get("distiller")
    if not there or not here or there["class_path"] == here["class_path"]:
        return experiment
    own = theirs | {"distiller": {"class_path": here["class_path"]}}
    return experiment | {"model": experiment["model"] | {"init_args": own}}


def config_hash(config: Config) -> str:
    """Return the hash of a resolved configuration without :data:`PLACE`."""
    return _digest(_flat(config, PLACE))


def differences(ours: Config, theirs: Config) -> list[str]:
    """Return the keys outside :data:`PLACE` in which two resolved configurations differ."""
    a, b = _flat(ours, PLACE), _flat(theirs, PLACE)
    return sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))


def measured_otherwise(test: Config, fit: Config, values: bool = False) -> list[str]:
    """Return where a test's input differs from its fit's: size, crop, normalisation and so on.

    Args:
        test: The resolved configuration of the test.
        fit: The resolved configuration of the fit.
        values: Write only the test's value instead of both.
    """
    free = PLACE + tuple(f"data.init_args.{key}" for key in _NOT_MEASURED)
    a, b = (_flat({"data": config["data"]}, free) for config in (test, fit))
    said = []
    for key in sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key)):
        short = key.replace(".init_args", "")
        said.append(
            f"{short} {a.get(key)}" if values else f"{short} ({a.get(key)}, not {b.get(key)})"
        )
    return said


def _flat(config: Config, without: tuple[str, ...]) -> Config:
    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if any(key == skip or key.startswith(f"{skip}.") for skip in without):
            return
        if isinstance(value, dict):
            if "class_path" in value:
                value = value | {"init_args": _with_defaults(value, handed_on=key == "model")}
            for name, inner in value.items():
                yield from walk(inner, f"{key}.{name}" if key else str(name))
        elif key not in ADDED or ADDED[key] != value:
            yield key, value

    return dict(walk(config, ""))


def _with_defaults(spec: Config, handed_on: bool = False) -> Config:
    """Return a ``class_path`` block's arguments, with the class's defaults of plain types.

    Args:
        spec: The block.
        handed_on: Whether defaults of what ``**`` hands on to the base class count, too.
    """
    plain = str | int | float | bool | None
    defaults: Config = {}
    kind = _class(spec)
    for base in kind.__mro__ if handed_on and isinstance(kind, type) else [kind]:
        if base is not kind and "__init__" not in vars(base):
            continue
        try:
            parameters = inspect.signature(base).parameters.values()
        except (ValueError, TypeError):
            break
        for parameter in parameters:
            value = parameter.default
            if isinstance(value, tuple) and all(isinstance(part, plain) for part in value):
                defaults.setdefault(parameter.name, list(value))
            elif isinstance(value, plain):
                defaults.setdefault(parameter.name, value)
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults | dict(spec.get("init_args") or {})


def _class(spec: Config) -> Any:
    """Return the class of a ``class_path`` block; None if it cannot be imported."""
    module, _, name = spec["class_path"].rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def recipe(args: Sequence[str]) -> Config:
    """Return the requested configuration from a fit's arguments: YAML files, parts and options.

    Keys are flat and without ``init_args``: ``model.distiller.dim``. Class defaults are not
    included (they belong to the source), nor are locations (:data:`PLACE`).

    Args:
        args: Arguments of ``tokd fit``, as ``--key value`` or ``--key=value``.

    Raises:
        TokdError: A configuration file is missing or not valid YAML.
    """
    asked: Config = {}
    for key, value in _options(args):
        if key == "config":
            given = dict(_flat_keys(read_whole(recipe_file(value)), ""))
        else:
            given = dict(_flat_keys(_with_parts(_parsed(value), Path()), short_key(key)))
            _forget(asked, short_key(key))
        asked |= given
    places = {short_key(key) for key in PLACE}
    blocks = tuple(f"{place}." for place in places)
    return {k: v for k, v in asked.items() if k not in places and not k.startswith(blocks)}


def recipe_hash(args: Sequence[str]) -> str:
    """Return the hash of :func:`recipe`."""
    return _digest(recipe(args))


def read_whole(file: Path) -> Any:
    """Read a YAML file and replace paths of its parts by their contents.

    Raises:
        TokdError: The file or a part is missing or not valid YAML.
    """
    file = recipe_file(file)
    return _with_parts(_load(file), file.parent)


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    left = list(args)
    while left:
        key, equals, value = left.pop(0).partition("=")
        if not key.startswith("--"):
            continue
        if not equals:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        yield key.removeprefix("--"), value


def _load(file: Path) -> Any:
    try:
        return _parsed(file.read_text())
    except OSError as error:
        raise TokdError(f"{file}: {reason(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TokdError(f"{file} is not a YAML file") from error


@lru_cache(64)
def _parsed(text: str) -> Any:
    """Return the content of a YAML text, which callers must not change: cells share files."""
    return yaml.load(text, _LOADER)


def _with_parts(value: Any, folder: Path) -> Any:
    """Replace the path of a part by its contents, as jsonargparse does."""
    if isinstance(value, dict):
        return {key: _with_parts(inner, folder) for key, inner in value.items()}
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        file = recipe_file(value) if folder == Path() else folder / value
        if file.is_file():
            return _with_parts(_load(file), file.parent)
    return value


def _flat_keys(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            where = key if name == "init_args" else f"{key}.{name}" if key else str(name)
            yield from _flat_keys(inner, where)
    elif key.rpartition(".")[2] in _CLASSES and isinstance(value, str):
        yield f"{key}.class_path", value
    else:
        yield key, value


def short_key(key: str) -> str:
    """Return a key without ``init_args``."""
    return ".".join(part for part in key.split(".") if part != "init_args")


def _is_in(key: str, block: str) -> bool:
    return key == block or key.startswith(f"{block}.")


def _forget(asked: Config, block: str) -> None:
    """Drop the keys that an option replaces: the whole block if it names one."""
    for key in [key for key in asked if _is_in(key, block)]:
        del asked[key]
