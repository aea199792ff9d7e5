"""Run folders: configurations, inputs and results of a run."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import take_lock, write_json, write_text
from tokd_lightning.runs.identity import Config
from tokd_lightning.runs.record import FILE, RunRecord, read_record, without_nan, write_record


class Run:
    """One folder ``runs/<name>``: configuration per stage, curves, checkpoints, results.

    Args:
        folder: The run's folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    @property
    def best(self) -> Path:
        """The checkpoint that validation selected."""
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def results(self) -> RunRecord | None:
        """Return ``metrics.json``, or None if the run is not finished.

        Raises:
            TokdError: The file cannot be read.
        """
        return read_record(self.folder / FILE)

    def write_results(self, record: RunRecord) -> None:
        """Write ``metrics.json`` atomically."""
        write_record(self.folder / FILE, record)

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Return the results of ``tokd evaluate``: each ``evaluation.json`` by its folder's name.

        Raises:
            TokdError: A file cannot be read.
        """
        names = sorted(
            path.parent.name for path in self.folder.glob("evaluations/*/evaluation.json")
        )
        found = {name: self.evaluation(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def evaluation(self, name: str, what: str = "evaluation") -> dict[str, Any] | None:
        """Return ``evaluations/<name>/evaluation.json``, or None if the file does not exist.

        Args:
            name: Name of its folder.
            what: ``evaluation`` or ``robustness``, for ``robustness.json``.

        Raises:
            TokdError: The file cannot be read.
        """
        path = self.folder / "evaluations" / name / f"{what}.json"
        return _read(path, "tokd evaluate with --force")

    def write_evaluation(
        self, name: str, record: Mapping[str, Any], what: str = "evaluation"
    ) -> None:
        """Write ``evaluations/<name>/<what>.json`` atomically."""
        write_json(self.folder / "evaluations" / name / f"{what}.json", without_nan(record))

    def save_config(self, stage: str, config: Config) -> None:
        """Write the resolved configuration of a stage, ``<stage>.yaml``."""
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_text(self.folder / f"{stage}.yaml", text)

    def begin(self, config: Config, inputs: Mapping[str, Any]) -> None:
        """Write the start of a fit: its configuration and the hashes of data, teacher and code.

        Remove partial files left by a kill, and the ``nonfinite.csv`` of an earlier attempt.
        """
        for path in (*self.folder.glob(".*.part"), self.folder / "nonfinite.csv"):
            path.unlink(missing_ok=True)
        write_json(self.folder / "inputs.json", inputs)
        self.save_config("fit", config)

    def inputs(self) -> dict[str, Any] | None:
        """Return the hashes of the run's inputs at its start, or None.

        Raises:
            TokdError: The file cannot be read.
        """
        return _read(self.folder / "inputs.json", "fit with --rerun")

    def config(self, stage: str = "fit") -> Config | None:
        """Return the resolved configuration of a stage, or None.

        Raises:
            TokdError: The file cannot be read.
        """
        return _read(self.folder / f"{stage}.yaml", "fit with --rerun", yaml.safe_load)

    def hold(self) -> None:
        """Lock the folder, if it exists, against other fits until :func:`letting_go` or exit.

        The lock belongs to this process: its child processes, which may outlive it, do not hold it.

        Raises:
            TokdError: Another fit, of this process or another one, holds it, or the folder cannot
                be written.
        """
        if self._lock is not None or not self.folder.is_dir():
            return
        if self.folder.resolve() in _TAKEN:  # the system's lock tells only processes apart
            raise TokdError(
                f"{self.folder} is being trained by another fit of this command: name each run "
                "once, or train under another name with --name"
            )
        path = self.folder / ".lock"
        try:
            lock = take_lock(path, inherited=False)
        except OSError as error:
            if error.filename:  # it cannot be opened
                raise TokdError(f"{path} cannot be written: {reason(error)}") from error
            return  # a file system without locks
        if lock is None:
            process = path.read_text()[:20] or "unknown"
            raise TokdError(
                f"{self.folder} is being trained by another process ({process}): wait for it, end "
                "it, or train under another name with --name"
            )
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock
        self._taken = self.folder.resolve()
        _TAKEN.add(self._taken)
        _HELD.get([]).append(self)

    def let_go(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            (self.folder / ".lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None
            _TAKEN.discard(self._taken)

    def set_aside(self) -> Path | None:
        """Move the folder to ``<name>.old-<n>``, so that finished work is never lost."""
        self.let_go()
        if not self.folder.exists():
            return None
        taken = (self.folder.with_name(f"{self.folder.name}.old-{n}") for n in range(1, 10_000))
        target = next(path for path in taken if not path.exists())
        self.folder.rename(target)
        return target


_TAKEN: set[Path] = set()  # folders that fits of this process hold
_HELD: ContextVar[list[Run]] = ContextVar("held")  # runs of one fit, each of which has a thread


@contextlib.contextmanager
def letting_go() -> Iterator[None]:
    """Release the runs that are held inside on exit, also after an exception."""
    token = _HELD.set([])
    try:
        yield
    finally:
        for run in _HELD.get():
            run.let_go()
        _HELD.reset(token)


def _read(
    path: Path, remedy: str, parse: Callable[[str], Any] = json.loads
) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return dict(parse(path.read_text()))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise TokdError(f"{path} cannot be read: remove it, or {remedy}") from error
