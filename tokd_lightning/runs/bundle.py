"""Bundles: scores, metrics and provenance of runs in one file, without images or checkpoints.

A bundle is a ZIP archive of text files: ``bundle.json`` (format, versions, states of the runs, size
and SHA-256 of every file) and, under ``runs/``, those files of the run folders from which tables,
figures and audits are made. Equal runs give equal bytes.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning import __version__
from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import replacing
from tokd_lightning.runs.identity import PLACE, Config
from tokd_lightning.runs.provenance import commit
from tokd_lightning.runs.record import FILE as METRICS

FORMAT = 1
_INDEX = "bundle.json"
_RUNS = "runs"
_OF_A_RUN = (
    METRICS, "fit.yaml", "inputs.json", "metrics.csv", "test_frames.csv", "audit/measured.json",
    "audit/files.csv", "audit/probe.csv", "evaluations/*/evaluation.json",
    "evaluations/*/robustness.json", "evaluations/*/frames.csv",
)  # fmt: skip
_OF_ALL = "table1.json"
_NAME = r"(?![.])[^/\\:\0]{1,200}"
_ALLOWED = re.compile(
    rf"{_RUNS}/({re.escape(_OF_ALL)}|{_NAME}/(%s))"
    % "|".join(re.escape(path).replace(r"\*", _NAME) for path in _OF_A_RUN)
)
_MAX_INDEX = 64 << 20
_MAX_BYTES = 8 << 30
_MAX_RATIO, _ALWAYS = 200, 64 << 20  # how much larger the content may be, above a size
_BLOCK = 1 << 20
_TIME = (1980, 1, 1, 0, 0, 0)
States = Mapping[str, tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself.

    Args:
        version: Version of this package that wrote it.
        commit: Commit of its source code; None if unknown.
        runs: Folder of all runs, as given when it was written.
        states: State and reasons of each run, as they were when it was written.
        folder: Where its run folders are now.
    """

    version: str
    commit: str | None
    runs: str
    states: States
    folder: Path


def write_bundle(runs: Path, file: Path, states: States) -> tuple[int, int]:
    """Write a bundle of all run folders.

    Places (where the data are, devices, logging) are left out of the configurations.

    Args:
        runs: Folder of all run folders.
        file: The bundle.
        states: State and reasons of each run that is a cell of a table.

    Returns:
        The number of runs and of files.

    Raises:
        TokdError: No run has results, or a file cannot be read or written.
    """
    paths = sorted(_files(runs))
    names = {path.relative_to(runs).parts[0] for path in paths if path.parent != runs}
    if not names:
        raise TokdError(f"{runs} has no run with results: tokd fit, tokd test")
    listed: dict[str, Any] = {}
    with replacing(file) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            name = f"{_RUNS}/{path.relative_to(runs).as_posix()}"
            if not _ALLOWED.fullmatch(name):
                raise TokdError(f"{path} has a name that a bundle cannot hold: rename it")
            content = _content(path)
            listed[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            archive.writestr(_entry(name), content)
        about = {
            "format": FORMAT, "version": __version__, "commit": commit(), "runs": str(runs),
            "states": {name: [state, list(why)] for name, (state, why) in sorted(states.items())},
            "files": listed,
        }  # fmt: skip
        archive.writestr(_entry(_INDEX), json.dumps(about, indent=1).encode())
    return len(names), len(paths)


def _files(runs: Path) -> Iterator[Path]:
    if (runs / _OF_ALL).is_file():
        yield runs / _OF_ALL
    for folder in runs.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            for pattern in _OF_A_RUN:
                yield from (path for path in folder.glob(pattern) if path.is_file())


def _content(path: Path) -> bytes:
    """Return what a bundle holds of a file: without places, which name folders of this machine."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokdError(f"{path} cannot be read: {reason(error)}") from error
    try:
        if path.name == "fit.yaml":
            config = _without_places(yaml.safe_load(content))
            return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
        if path.name == "evaluation.json":
            record = json.loads(content)
            record["data"].pop("path", None)
            return (json.dumps(record, indent=2) + "\n").encode()
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        pass  # it is reported when it is read, as in the run's folder
    return content


def _without_places(config: Config, key: str = "") -> Config:
    kept = {}
    for name, value in config.items():
        full = f"{key}.{name}" if key else str(name)
        if full not in PLACE:
            kept[name] = _without_places(value, full) if isinstance(value, dict) else value
    return kept


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    return entry


def read_bundle(file: Path, into: Path) -> Bundle:
    """Check a bundle and write its run folders.

    Nothing is trusted: names outside run folders, files that are not listed or listed twice, other
    sizes or hashes than listed, and contents far larger than the archive are refused.

    Args:
        file: The bundle.
        into: An empty folder.

    Raises:
        TokdError: It is not a bundle, is damaged or hostile, or is of a later format.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            about = _index(archive, file)
            _check(archive, about["files"], file)
            for name, listed in about["files"].items():
                _extract(archive, name, listed, into, file)
            return Bundle(
                str(about["version"]),
                about["commit"],
                str(about["runs"]),
                {str(name): (str(s), tuple(why)) for name, (s, why) in about["states"].items()},
                into / _RUNS,
            )
    except OSError as error:
        raise TokdError(f"{file} cannot be read: {reason(error)}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise TokdError(
            f"{file} is not a bundle of tokd report, or is damaged ({error})"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TokdError(
            f"{file} is not a bundle of tokd report: its {_INDEX} is wrong ({error})"
        ) from error


def _index(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    if _INDEX not in archive.namelist():
        raise TokdError(f"{file} is not a bundle of tokd report: it has no {_INDEX}")
    with archive.open(_INDEX) as opened:
        content = opened.read(_MAX_INDEX + 1)
    if len(content) > _MAX_INDEX:
        raise TokdError(f"{file} is refused: its {_INDEX} is larger than {_MAX_INDEX >> 20} MB")
    about = dict(json.loads(content))
    if int(about["format"]) > FORMAT:
        raise TokdError(
            f"{file} has format {about['format']}, which this version ({FORMAT}) cannot read: "
            "update tokd_lightning"
        )
    return about


def _check(archive: zipfile.ZipFile, listed: Mapping[str, Any], file: Path) -> None:
    names = [entry.filename for entry in archive.infolist()]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise TokdError(f"{file} is refused: {twice[0]!r} is in it twice")
    if odd := set(names) ^ {_INDEX, *listed}:
        raise TokdError(f"{file} is damaged: {min(odd)!r} is not both in it and listed")
    if hostile := next((name for name in listed if not _ALLOWED.fullmatch(name)), None):
        raise TokdError(f"{file} is refused: {hostile!r} is not a file of a run")
    sizes = [int(entry["bytes"]) for entry in listed.values()]
    if min(sizes, default=0) < 0:
        raise ValueError("a size is negative")
    total = sum(sizes)
    packed = sum(entry.compress_size for entry in archive.infolist())
    if total > min(_MAX_BYTES, max(_ALWAYS, _MAX_RATIO * packed)):
        raise TokdError(f"{file} is refused: it would unpack to {total >> 20} MB")


def _extract(
    archive: zipfile.ZipFile, name: str, listed: Mapping[str, Any], into: Path, file: Path
) -> None:
    size, digest, target = int(listed["bytes"]), hashlib.sha256(), into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(name) as opened, target.open("wb") as out:
        while block := opened.read(_BLOCK):
            written += len(block)
            if written > size:
                break
            digest.update(block)
            out.write(block)
    if written != size or digest.hexdigest() != listed["sha256"]:
        raise TokdError(f"{file} is damaged: {name} is not what was written")
