"""Short forms in the arguments of a fit or test: run folders, names of methods and detectors."""

import inspect
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tokd_lightning.distillation.catalogue import METHODS
from tokd_lightning.distillation.distiller import Distiller
from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import DETECTORS, Detector
from tokd_lightning.runs.identity import recipe
from tokd_lightning.runs.recipe import recipe_file

_NAMING = tuple(
    f"--model.{part}{key}" for key in ("distiller", "detector") for part in ("", "init_args.")
)
_KNOWN: dict[str, type] = {
    name: kind for kind in METHODS for name in (kind.method, kind.__name__.lower())
}
_KNOWN |= {name: kind for kind in DETECTORS.values() for name in (kind.name, kind.__name__.lower())}
_KNOWN["kd"] = next(kind for kind in METHODS if kind.method == "hinton")
_FLAGS = {"--rerun", "--reuse", "--print_config", "-h", "--help"}  # options that take no value
_CONFIG = ("--config", "-c")
_PLAIN = (str, int, float, bool, tuple, list, type(None))


def written_out(args: Sequence[str]) -> list[str]:
    """Expand the short forms in arguments.

    ``test runs/NAME`` becomes ``test --config runs/NAME/fit.yaml``, ``--config ffpp_res18t`` the
    shipped experiment of that name, and ``--model.distiller at`` becomes ``AttentionTransfer`` with
    its own defaults.

    Args:
        args: The verb and its arguments.

    Raises:
        TokdError: The argument in place of a run is not a run, or there are two.
    """
    verb, *rest = args
    places = _positional(rest)
    if places[:1] != [0] and any(part.partition("=")[0] in _CONFIG for part in rest):
        places = []  # a stray word, which the parser names
    if len(places) > 1:
        raise TokdError(f"{verb} takes one run at a time, and {rest[places[1]]} is a second one")
    if places:
        given = rest.pop(places[0])
        if given.endswith((".yaml", ".yml")):
            raise TokdError(f"a .yaml belongs behind --config: tokd {verb} --config {given}")
        rest = ["--config", str(_configuration(verb, given)), *rest]
    return [verb, *_methods(_located(rest))]


def _located(rest: Sequence[str]) -> list[str]:
    """Replace names of experiments and parts by their files."""
    found: list[str] = []
    for part in rest:
        key, equals, value = part.partition("=")
        if equals and key in (*_CONFIG, *_NAMING):
            part = f"{key}={_file_of(key, value)}"
        elif found and found[-1] in (*_CONFIG, *_NAMING):
            part = _file_of(found[-1], part)
        found.append(part)
    return found


def _file_of(key: str, value: str) -> str:
    named = key in _CONFIG or value.endswith((".yaml", ".yml"))
    return str(recipe_file(value)) if named else value


def _positional(rest: Sequence[str]) -> list[int]:
    """Find the arguments that are neither an option nor the value of one."""
    found, at = [], 0
    while at < len(rest):
        part = rest[at]
        if not part.startswith("-"):
            found.append(at)
        elif "=" not in part and part not in _FLAGS:
            at += 1
        at += 1
    return found


def _configuration(verb: str, name: str) -> Path:
    """Return the configuration of a run, given its folder or its best.ckpt."""
    path = Path(name)
    folder = path.absolute().parent.parent if path.name == "best.ckpt" else path
    if (folder / "fit.yaml").is_file():
        return folder / "fit.yaml"
    why = (
        "has no fit.yaml" if folder.is_dir() else "is a file" if path.exists() else "does not exist"
    )
    other = ", or an experiment with --config experiments/….yaml" if verb == "fit" else ""
    raise TokdError(f"{name} {why}: name a run that tokd fit made, runs/NAME{other}")


def _methods(rest: Sequence[str]) -> list[str]:
    """Expand the method of ``--model.distiller`` or ``--model.detector``, with its own defaults.

    Without them a method would inherit the experiment's values of options with the same names, e.g.
    AT the rotation of TOKD.
    """
    found: list[str] = []
    for part in rest:
        key, equals, value = part.partition("=")
        before = found[-1] if found else ""
        if equals and key in _NAMING:
            part = f"{key}={_method(value, found)}"
        elif before in _NAMING:
            part = _method(part, found[:-1])
        found.append(part)
    return found


def _method(name: str, before: Sequence[str]) -> str:
    kind = _KNOWN.get(name.lower()) or _own(name)
    if kind is None:
        return name
    shown = name if "." in name else kind.__name__
    block = "detector" if issubclass(kind, Detector) else "distiller"
    known = recipe(before).get(f"model.{block}.class_path")
    if str(known).rpartition(".")[2] == kind.__name__:
        return shown
    parameters = inspect.signature(kind).parameters.values()
    defaults = {p.name: p.default for p in parameters if isinstance(p.default, _PLAIN)}
    return json.dumps({"class_path": shown} | ({"init_args": defaults} if defaults else {}))


def _own(name: str) -> type | None:
    """Return a custom method or detector by its full name; None leaves the error to the parser."""
    module, _, kind = name.rpartition(".")
    if not module or name.endswith((".yaml", ".yml")) or not name.replace(".", "").isidentifier():
        return None
    try:
        found = getattr(import_module(module), kind)
    except Exception:  # whatever it is, the parser reports it
        return None
    return found if isinstance(found, type) and issubclass(found, Distiller | Detector) else None
