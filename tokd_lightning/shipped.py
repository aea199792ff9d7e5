"""The experiments as this version ships them: what a run must be to be a cell of the paper.

``shipped.csv`` holds every experiment and distiller of ``experiments/`` and ``configs/``, as they
are in the source tree, so that a file that was changed is known without the original. After a
change of those folders, ``python -m tokd_lightning.shipped`` writes it again.
"""

import csv
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning.naming import PLACE, Config, cell
from tokd_lightning.recipe import read_whole, short_key

_FILE = Path(__file__).parent / "tables" / "published" / "shipped.csv"
_FOLDERS = ("experiments", "configs/distillers")
_OWN = "own_"  # data of one's own: no cell of the paper
_TOKD = "tokd"


@cache
def shipped() -> dict[str, Config]:
    """Return all files: ``experiments/ffpp_res18t.yaml`` -> its content, parts included."""
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
    """Return the experiments whose data sets are the paper's, and the demo's."""
    return {
        name: content
        for name, content in shipped().items()
        if name.startswith("experiments/") and not Path(name).name.startswith(_OWN)
    }


def reference(config: Config, file: Path | None) -> str | None:
    """Find the shipped experiment that a run is named after in the place of its own file.

    Args:
        config: The resolved configuration.
        file: Its experiment file.

    Returns:
        The experiment of the cell; None where ``file`` itself is as it was shipped and of the same
        network and data set, and where the cell is none of the paper's.
    """
    wanted = _kind(config)
    alike = [name for name, it in _experiments().items() if _kind(it) == wanted]
    if alike and file is not None and file.is_file():
        content = _flat(read_whole(file))
        if any(_flat(_experiments()[name]) == content for name in alike):
            return None
    return min(alike, key=lambda name: _distance(_experiments()[name], config), default=None)


def as_yaml(name: str) -> str:
    """Return a shipped file, parts included."""
    return yaml.safe_dump(shipped()[name], sort_keys=False)


@cache
def edits(file: str, folder: Path) -> dict[str, Any]:
    """Return in what a file differs from the one shipped: key -> value; nothing without a file.

    Args:
        file: As ``experiments/ffpp_res18t.yaml``.
        folder: Where that is.
    """
    path = folder / file
    if file not in shipped() or not path.is_file():
        return {}
    ours, theirs = (_plain(content) for content in (read_whole(path), shipped()[file]))
    keys = ours.keys() | theirs.keys()
    return {key: ours.get(key) for key in sorted(keys) if ours.get(key) != theirs.get(key)}


def _plain(content: Config) -> Config:
    """Flatten a file, without what only says where things are, and the seed."""
    places = {short_key(key) for key in (*PLACE, "seed_everything")}
    flat = {short_key(key.replace("/", ".")): value for key, value in _flat(content).items()}
    return {
        key: value
        for key, value in flat.items()
        if not any(key == place or key.startswith(f"{place}.") for place in places)
    }


def _kind(config: Config) -> tuple[str, str, str]:
    """Return the data set, the role and, of a student, the network."""
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    role = "student" if "distiller" in model else "teacher"
    return str(data.get("name")), role, str(model.get("student", ""))


def _distance(experiment: Config, config: Config) -> tuple[bool, bool, bool, bool]:
    """Order experiments by how near they are to a cell; TOKD's stands for methods without one."""
    theirs, ours = cell(_qualified(experiment)), cell(config)
    return (
        theirs.method != ours.method,
        theirs.branches != ours.branches,
        theirs.data != ours.data,
        theirs.method != _TOKD,
    )


def _qualified(experiment: Config) -> Config:
    """Return an experiment with the full name of its method's class, as a resolved one has."""
    model = experiment["model"]["init_args"]
    if "distiller" not in model:
        return experiment
    distiller = model["distiller"]
    name = distiller["class_path"]
    if "." not in name:
        distiller = distiller | {"class_path": f"tokd_lightning.distillation.{name}"}
    return experiment | {"model": {"init_args": model | {"distiller": distiller}}}


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
    write_shipped(Path(__file__).parents[1])
