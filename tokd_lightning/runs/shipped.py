"""The shipped experiments, which define the cells of the paper.

``shipped.csv`` holds every experiment and distiller of ``experiments/`` and ``configs/``, as they
are in the source tree, so that an edited file is detected without the original. After a change of
those folders, regenerate it with ``python -m tokd_lightning.runs.shipped``.
"""

import csv
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning.runs.identity import (
    DETECTOR,
    PLACE,
    Config,
    cell,
    read_whole,
    short_key,
)

_FILE = Path(__file__).parents[1] / "tables" / "published" / "shipped.csv"
_FOLDERS = ("experiments", "configs/distillers")
_BEYOND = ("own_", "modern_")  # custom data and later networks: not cells of the paper
_TOKD = "tokd"


@cache
def shipped() -> dict[str, Config]:
    """Return all files: ``experiments/ffpp_res18t.yaml`` -> its content, including parts."""
    files: dict[str, Config] = {}
    with _FILE.open(newline="") as file:
        for row in csv.DictReader(file):
            block = files.setdefault(row["file"], {})
            *above, last = row["key"].split("/")
            for part in above:
                block = block.setdefault(part, {})
            block[last] = json.loads(row["value"])
    return files


@cache
def _experiments() -> dict[str, Config]:
    """Return the experiments on the paper's data sets and the demo's."""
    return {
        name: content
        for name, content in shipped().items()
        if name.startswith("experiments/") and not Path(name).name.startswith(_BEYOND)
    }


def reference(config: Config, file: Path | None) -> str | None:
    """Return the shipped experiment that a run is named after instead of its own file.

    Args:
        config: The resolved configuration.
        file: Its experiment file.

    Returns:
        The experiment of the cell; None if ``file`` itself is unchanged from a shipped file of the
        same network and data set, or if the cell is not in the paper.
    """
    wanted = _kind(config)
    alike = [name for name, it in _experiments().items() if _kind(it) == wanted]
    if alike and file is not None and file.is_file():
        content = _flat(read_whole(file))
        if any(_flat(_experiments()[name]) == content for name in alike):
            return None
    return min(alike, key=lambda name: _distance(_experiments()[name], config), default=None)


def as_yaml(name: str) -> str:
    """Return a shipped file as YAML, including parts."""
    return yaml.safe_dump(shipped()[name], sort_keys=False)


@cache
def edits(file: str, folder: Path) -> dict[str, Any]:
    """Return where a file differs from the shipped one: key -> value; empty without a file.

    Args:
        file: Path such as ``experiments/ffpp_res18t.yaml``.
        folder: The folder the path is relative to.
    """
    path = folder / file
    if file not in shipped() or not path.is_file():
        return {}
    ours, theirs = (_plain(content) for content in (read_whole(path), shipped()[file]))
    keys = ours.keys() | theirs.keys()
    return {key: ours.get(key) for key in sorted(keys) if ours.get(key) != theirs.get(key)}


def _plain(content: Config) -> Config:
    """Flatten a file, without the seed and locations (:data:`PLACE`)."""
    places = {short_key(key) for key in (*PLACE, "seed_everything")}
    flat = {short_key(key.replace("/", ".")): value for key, value in _flat(content).items()}
    return {
        key: value
        for key, value in flat.items()
        if not any(key == place or key.startswith(f"{place}.") for place in places)
    }


def _kind(config: Config) -> tuple[str, str, str]:
    """Return the data set, the role and, for a student or detector, the network."""
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    if "detector" in model:
        kind = str(model["detector"]["class_path"]).rpartition(".")[2]
        return str(data.get("name")), DETECTOR, kind
    role = "student" if "distiller" in model else "teacher"
    return str(data.get("name")), role, str(model.get("student", ""))


def _distance(experiment: Config, config: Config) -> tuple[bool, bool, bool, bool]:
    """Return a sort key by distance to a cell; TOKD's experiment serves methods without one."""
    theirs, ours = cell(_qualified(experiment)), cell(config)
    return (
        theirs.method != ours.method,
        theirs.branches != ours.branches,
        theirs.data != ours.data,
        theirs.method != _TOKD,
    )


def _qualified(experiment: Config) -> Config:
    """Return an experiment with the full class path of its method or detector."""
    model = experiment["model"]["init_args"]
    for key, room in (("distiller", "distillation"), (DETECTOR, "models.detectors")):
        block = model.get(key)
        if block is not None and "." not in block["class_path"]:
            block = block | {"class_path": f"tokd_lightning.{room}.{block['class_path']}"}
            return experiment | {"model": {"init_args": model | {key: block}}}
    return experiment


def _flat(content: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {key: content}
    return {
        inner: value
        for name, part in content.items()
        for inner, value in _flat(part, f"{key}/{name}" if key else str(name)).items()
    }


def _rows(root: Path) -> Iterator[tuple[str, str, str]]:
    for folder in _FOLDERS:
        for path in sorted((root / folder).glob("*.yaml")):
            for key, value in _flat(read_whole(path)).items():
                yield path.relative_to(root).as_posix(), key, json.dumps(value)


def write_shipped(root: Path, file: Path = _FILE) -> None:
    """Write ``shipped.csv`` from the folders of a source tree."""
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("file", "key", "value"))
        writer.writerows(_rows(root))


if __name__ == "__main__":
    write_shipped(Path(__file__).parents[2])
