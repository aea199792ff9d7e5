"""``explanations.json``: its content, and the check for an earlier explanation to reuse."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation import Trained
from tokd_lightning.evaluation import record as evaluation
from tokd_lightning.explain.options import Options
from tokd_lightning.files import write_json
from tokd_lightning.runs.identity import Config

FILE = "explanations.json"


def before(
    trained: Trained,
    target: Target | None,
    data: FrameDataModule,
    options: Options,
    edges: Sequence[float],
) -> Config:
    """Return the part of the record that is known before the explanation is computed."""
    kind = str(trained.config["data"]["class_path"]).rsplit(".", 1)[-1]
    shown = target or Target(data.name, kind, data.quality, data.root)
    record = evaluation.before(trained, shown, data, options.split, "32-true")
    record["options"] |= {
        "frames": options.frames,
        "errors": options.errors,
        "strides": list(options.strides),
        "edges": [round(edge, 9) for edge in edges],
        "band_frames": options.band_frames,
    }
    return record


def earlier(folder: Path, record: Config) -> Config | None:
    """Return the record of a complete earlier explanation in a folder, else None.

    Raises:
        TokdError: It was made with different data or options, or cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        found = dict(json.loads(path.read_text()))
        files = dict(found["files"])
        changed = evaluation.changes(found, record)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise TokdError(f"{path} cannot be read: remove it, or explain with --force") from error
    if changed:
        raise TokdError(f"{folder} was made with {changed}: --force explains again")
    whole = all(_hash(folder / name) == digest for name, digest in files.items())
    return found if whole else None


def write(folder: Path, record: Config, names: Sequence[str]) -> None:
    """Write the record with the hash of every file; it is written after all other files."""
    record["files"] = {name: _hash(folder / name) for name in sorted(names)}
    write_json(folder / FILE, record)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
