"""The requested configuration of a fit: experiment file and options, without building anything."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.naming import PLACE, Config

_CLASSES = {"model", "data", "distiller", "detector"}  # their name alone is a class path
# LibYAML's, which most builds of PyYAML have, reads the same ten times as fast.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
            given = dict(_flat(read_whole(Path(value)), ""))
        else:
            given = dict(_flat(_with_parts(yaml.safe_load(value), Path()), short_key(key)))
            _forget(asked, short_key(key))
        asked |= given
    place = [short_key(key) for key in PLACE]
    return {k: v for k, v in asked.items() if not any(_is_in(k, p) for p in place)}


def recipe_hash(args: Sequence[str]) -> str:
    """Return the hash of :func:`recipe`."""
    text = json.dumps(recipe(args), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_whole(file: Path) -> Any:
    """Read a YAML file and replace paths of its parts by their contents.

    Raises:
        TokdError: The file or a part is missing or not valid YAML.
    """
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
        return yaml.load(file.read_text(), _LOADER)
    except OSError as error:
        raise TokdError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TokdError(f"{file} is not a YAML file") from error


def _with_parts(value: Any, folder: Path) -> Any:
    """Replace the path of a part by its contents, as jsonargparse does."""
    if isinstance(value, dict):
        return {key: _with_parts(inner, folder) for key, inner in value.items()}
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        file = folder / value
        if file.is_file():
            return _with_parts(_load(file), file.parent)
    return value


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            where = key if name == "init_args" else f"{key}.{name}" if key else str(name)
            yield from _flat(inner, where)
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
