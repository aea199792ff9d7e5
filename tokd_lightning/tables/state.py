"""State of a cell: how far its run is, and whether it is stale."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import recipe_hash
from tokd_lightning.runs.provenance import changed_data, source_hash, sources_of
from tokd_lightning.tables.grid import GridCell

Kind = Literal["not run", "interrupted", "not tested", "done", "stale", "unreadable"]
CODE = "code"


@dataclass(frozen=True)
class State:
    """State of a cell.

    Args:
        kind: The state. ``stale``: started or finished, but made from other inputs than a run would
            use now.
        why: What differs, out of ``configuration``, ``code``, ``data`` (its frames; else ``data:
            other splits`` and the like) and ``teacher``; or what cannot be read.
    """

    kind: Kind
    why: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Return whether its checkpoint can be a teacher: it may be stale only in its code."""
        return self.kind in {"done", "not tested"} or (self.kind, self.why) == ("stale", (CODE,))

    def __str__(self) -> str:
        return f"{self.kind} ({', '.join(self.why)})" if self.why else self.kind


class Looker:
    """Callable that determines the states of cells; inputs that cells share are hashed once.

    Args:
        runs: Folder of all run folders.
        data: Rows of a cell -> current hashes of them, as printed by ``tokd inputs``; rows that are
            missing here are not compared.
        checkpoints: Whether a run is unreadable if its best.ckpt is needed and missing; reporting
            numbers does not need it.
    """

    def __init__(
        self,
        runs: Path,
        data: Mapping[str, Mapping[str, Any]] | None = None,
        checkpoints: bool = True,
    ) -> None:
        self.runs = runs
        self.checkpoints = checkpoints
        self.data = dict(data or {})
        self.source = source_hash()
        self._recipes: dict[str, str] = {}  # by name: options of a cell may be lists

    def __call__(self, cell: GridCell) -> State:
        """Return the state of a cell."""
        run = Run(self.runs / cell.name)
        try:
            record = run.results()
        except TokdError as error:
            return State("unreadable", (str(error),))
        if record is None:
            return self._unfinished(cell, run)
        changed = [*self._changed(cell, record.hashes), *self._code(record.hashes)]
        needed = self.checkpoints and (cell.role == "teacher" or not record.is_tested)
        if needed and not run.best.is_file():
            return State("unreadable", (f"{run.best} is missing: fit with --rerun",))
        if changed:
            return State("stale", tuple(changed))
        return State("done" if record.is_tested else "not tested")

    def _unfinished(self, cell: GridCell, run: Run) -> State:
        try:
            begun = run.inputs()
        except TokdError as error:
            return State("unreadable", (str(error),))
        if begun is None:
            return State("not run")
        changed = self._changed(cell, begun)
        return State("stale", tuple(changed)) if changed else State("interrupted")

    def _changed(self, cell: GridCell, hashes: Mapping[str, Any]) -> list[str]:
        changed = []
        if hashes.get("recipe") != self._recipe(cell):
            changed.append("configuration")
        if what := changed_data(hashes, self.data.get(cell.rows, {"data": hashes.get("data")})):
            changed.append("data" if what == "other frames" else f"data: {what}")
        if cell.teacher and self._other_teacher(cell.teacher, hashes):
            changed.append("teacher")
        return changed

    def _recipe(self, cell: GridCell) -> str:
        if cell.name not in self._recipes:
            self._recipes[cell.name] = recipe_hash(cell.arguments())
        return self._recipes[cell.name]

    def _other_teacher(self, teacher: GridCell, hashes: Mapping[str, Any]) -> bool:
        """Return whether a student had another teacher: by its weights, or else by its recipe."""
        if (weights := self._teacher(teacher)) is not None:
            return bool(weights != hashes.get("teacher"))
        asked = hashes.get("teacher_recipe")
        return asked is not None and asked != self._recipe(teacher)

    def _code(self, hashes: Mapping[str, Any]) -> list[str]:
        return [] if set(sources_of(hashes)) == {self.source} else [CODE]

    def _teacher(self, teacher: GridCell) -> str | None:
        try:
            record = Run(self.runs / teacher.name).results()
        except TokdError:
            return None
        return None if record is None else record.hashes.get("weights")
