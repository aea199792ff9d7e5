"""Cells of the paper's tables: each overrides a shipped experiment, never copies it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import DETECTOR, NAMED, PLACE, Cell, name_of
from tokd_lightning.runs.shipped import edits

EXPERIMENTS = Path("experiments")
DISTILLERS = Path("configs/distillers")
TEACHER_SEED = 0
# Blocks of a configuration that name a class: their arguments are under ``init_args``.
_CLASSES = (
    *("data", "model", "model.distiller", "model.distiller.add", "model.optimizer"),
    *("model.detector", "model.loss"),
    *("model.lr_scheduler", "model.rotation_optimizer", "model.rotation_scheduler"),
)

Option = tuple[str, Any]


class DataSet(NamedTuple):
    """A data set of the tables.

    Attributes:
        title: Name in tables.
        name: Name in run names.
        quality: Compression, as named in its folders.
        experiments: Prefix of the names of its experiment files.
        root: Default folder, without ``--data``.
        own: Options that its cells need in addition to the experiment files.
    """

    title: str
    name: str
    quality: str
    experiments: str
    root: Path
    own: tuple[Option, ...] = ()


DATASETS = {
    "ffpp": DataSet("FF++", "ffpp", "c40", "ffpp", Path("data/ffpp")),
    "celebdf": DataSet("Celeb-DF", "celebdf", "original", "celebdf", Path("data/celebdf")),
    "demo": DataSet(
        "mini-FF++", "synthetic", "c40", "demo", Path("data/demo"), (("data.quality", "c40"),)
    ),
    # What `make demo` trains on.
    "demo-c23": DataSet(
        "mini-FF++ c23", "synthetic", "c23", "demo", Path("data/demo"), (("data.quality", "c23"),)
    ),
}
DEMO = ("demo", "demo-c23")
STUDENTS = {"resnet18_thin": "ResNet18-T", "resnet34_thin": "ResNet34-T", "xception": "Xception"}
_SHORT = {"resnet18_thin": "res18t", "resnet34_thin": "res34t", "xception": "xception"}
METHODS = {
    "vanilla": "Vanilla",
    "hinton": "KD",
    "tokd": "TOKD",
    "at": "AT",
    "pkt": "PKT",
    "vid": "VID",
    "sp": "SP",
    "fitnet": "FitNet",
}
# The detectors of Table 2; `tokd_lightning.models.detectors` has the same names.
DETECTORS = {
    **{"multitask": "Multi-task", "twobranch": "Two-branch", "spsl": "SPSL", "rfm": "RFM"},
    **{"addnet": "AddNet", "facexray": "Face X-ray", "f3net": "F3-Net", "multiatt": "MultiAtt"},
}
RECIPES = ("paper", "house")
HOUSE = Path("configs/recipes/house.yaml")
_NEVER_DONE = {
    "trainer.limit_test_batches": "a table's numbers are of the whole test split",
    "trainer.fast_dev_run": "it keeps nothing",
    "trainer.barebones": "it keeps nothing",
}
_OTHER_ROWS = ("data.leave_out", "data.forge")  # options that change which rows are read
BRANCHES = {"none": "", "rgb": "RGB", "frequency": "Fre", "both": "Both"}


@dataclass(frozen=True)
class GridCell:
    """One run of the tables.

    Args:
        data: Key of :data:`DATASETS`.
        role: ``teacher``, ``student`` or ``detector``.
        backbone: Key of :data:`STUDENTS`; for a teacher, the backbone of its experiment; empty for
            a detector.
        method: Key of :data:`METHODS` or, for a detector, of :data:`DETECTORS`; ``teacher`` for
            teachers.
        branches: ``none``, ``rgb``, ``frequency`` or ``both``; for a detector its recipe, ``paper``
            or ``house``, or ``demo`` on the demo's data.
        extra: Further options that distinguish the cell, such as d; part of its name.
        seed: Seed of the run.
        common: Options that all cells of a call share (``--set``); part of its name.
    """

    data: str
    role: str
    backbone: str
    method: str
    branches: str
    extra: tuple[Option, ...] = ()
    seed: int = 0
    common: tuple[Option, ...] = field(default=())

    @property
    def dataset(self) -> DataSet:
        """The cell's data set."""
        return DATASETS[self.data]

    @property
    def rows(self) -> str:
        """Key that is equal for cells that read the same rows of one data set."""
        changed = [f"{key}={value}" for key, value in self.extra if key in _OTHER_ROWS]
        return " ".join([self.data, *changed])

    @property
    def experiment(self) -> Path:
        """The experiment file that the cell overrides."""
        if self.role == "teacher":
            kind = "teacher"
        elif self.role == DETECTOR:
            kind = self.method
        elif self.dataset.experiments == "demo":
            kind = "vanilla" if self.method == "vanilla" else "tokd"
        else:
            kind = _SHORT[self.backbone]
        return EXPERIMENTS / f"{self.dataset.experiments}_{kind}.yaml"

    @property
    def name(self) -> str:
        """The name that ``tokd fit`` gives its run, computed without parsing a configuration."""
        here = Path.cwd()  # where the experiment files are that the name depends on
        known: dict[Path, str] = self.__dict__.setdefault("_names", {})
        if here not in known:
            known[here] = self._name()
        return known[here]

    def _name(self) -> str:
        place = f"{self.dataset.name}-{self.dataset.quality}"
        it = Cell(place, self.role, self.backbone, self.method, self.branches, self.seed)
        changed = {_full(key): value for key, value in (*self.extra, *self.common)}
        changed = {k: v for k, v in changed.items() if not _is_place(k)}
        return name_of(it, changed | {f"shipped {k}": v for k, v in self.edits().items()})

    @property
    def title(self) -> str:
        """Human-readable title."""
        if self.role == DETECTOR:
            recipe = f"{self.branches} recipe"
            return f"{self.dataset.title} {DETECTORS[self.method]} {recipe} seed {self.seed}"
        branches = "" if self.role == "teacher" else BRANCHES[self.branches]
        what = "teacher" if self.role == "teacher" else METHODS[self.method]
        network = "" if self.role == "teacher" else STUDENTS[self.backbone]
        extra = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.extra)
        parts = (self.dataset.title, network, what, branches, extra, f"seed {self.seed}")
        return " ".join(part for part in parts if part)

    @cached_property
    def teacher(self) -> "GridCell | None":
        """The teacher that the cell needs: one per data set, with seed 0, for all seeds."""
        if self.role in ("teacher", DETECTOR) or self.method == "vanilla":
            return None
        return teacher_of(self.data, self.common)

    def edits(self) -> dict[str, Any]:
        """Return in which keys its experiment and distiller files differ from the shipped ones."""
        here, distiller = Path.cwd(), dict(self.options(False)).get("model.distiller")
        found = edits(self.experiment.as_posix(), here)
        if distiller is None:
            return found
        kept = {k: v for k, v in found.items() if not k.startswith("model.distiller.")}
        return kept | {f"model.distiller.{k}": v for k, v in edits(str(distiller), here).items()}

    def edited(self) -> str:
        """Return a message on edits of its shipped files and their consequence; empty if none."""
        found = self.edits()
        if not found:
            return ""
        keys = ", ".join(list(found)[:3]) + (" and more" if len(found) > 3 else "")
        return (
            f"{self.experiment} or a part of it is not as shipped ({keys}): its runs are none of "
            f"the paper's and are named apart, {self.name}"
        )

    def options(self, all_of_them: bool = True) -> list[Option]:
        """Return the options that the cell overrides in its experiment, except those of location.

        Args:
            all_of_them: Whether to include ``extra`` and ``common``, which the name is hashed from.
        """
        options = list(self.dataset.own)
        shipped = "vanilla" if self.experiment.stem == "demo_vanilla" else "tokd"
        if self.role == "student" and self.method != shipped:
            options.append(("model.distiller", f"{DISTILLERS}/{self.method}.yaml"))
        if self.role == "student" and self.branches not in {"none", "both"}:
            options.append(("model.distiller.branches", self.branches))
        return [*options, *self.extra, *self.common] if all_of_them else options

    def arguments(
        self, root: Path | None = None, runs: Path = Path("runs"), named: bool = True
    ) -> list[str]:
        """Return the arguments of ``tokd fit`` and ``tokd test``.

        Args:
            root: Folder of the data set; None keeps the one in the experiment.
            runs: Folder of all run folders.
            named: Whether to pass the name; without it, a fit computes it again.
        """
        given: list[Option] = [("config", self.experiment)]
        house = self.role == DETECTOR and self.branches == "house"
        if house:
            given.append(("config", HOUSE))
        given.append(("seed_everything", self.seed))
        if root is not None:
            given.append(("data.root", root))
        if runs != Path("runs"):
            given.append(("runs", runs))
        if self.teacher is not None:
            best = runs / self.teacher.name / "checkpoints" / "best.ckpt"
            given.append(("model.teacher", best))
        if named:
            given.append(("name", self.name))
        return [part for key, v in (*given, *self.options()) for part in (f"--{key}", _text(v))]


def teacher_of(data: str, common: tuple[Option, ...] = ()) -> GridCell:
    """Return the teacher of a data set, which all its students share."""
    shared = tuple(option for option in common if not option[0].startswith("model."))
    backbone = "resnet18_thin" if data in DEMO else "xception"
    return GridCell(data, "teacher", backbone, "teacher", "both", (), TEACHER_SEED, shared)


def detector(data: str, name: str, recipe: str = "paper") -> GridCell:
    """Return a detector of Table 2.

    Args:
        data: Key of :data:`DATASETS`.
        name: Key of :data:`DETECTORS`.
        recipe: One of :data:`RECIPES`; the demo's data have one of their own.
    """
    return GridCell(data, DETECTOR, "", name, "demo" if data in DEMO else recipe)


def student(
    data: str, backbone: str, method: str, branches: str = "none", **extra: Any
) -> GridCell:
    """Return a student of the tables.

    Args:
        data: Key of :data:`DATASETS`.
        backbone: Key of :data:`STUDENTS`.
        method: Key of :data:`METHODS`.
        branches: Branches that are distilled.
        extra: Options of the distiller, such as ``dim``; ``pretrained`` is one of the student.
    """
    options = tuple(
        (f"model.{key}" if key == "pretrained" else f"model.distiller.{key}", value)
        for key, value in extra.items()
    )
    return GridCell(data, "student", backbone, method, branches, options)


def with_teachers(cells: Iterable[GridCell]) -> list[GridCell]:
    """Return the cells without duplicates, each after the teacher that it needs."""
    ordered: dict[str, GridCell] = {}
    every = list(cells)
    teachers = [cell.teacher for cell in every]
    for cell in (*filter(None, teachers), *every):
        ordered.setdefault(cell.name, cell)
    return list(ordered.values())


def select(
    cells: Sequence[GridCell],
    dataset: Sequence[str] = (),
    student: Sequence[str] = (),
    method: Sequence[str] = (),
    branches: Sequence[str] = (),
) -> list[GridCell]:
    """Filter cells; an empty filter keeps all.

    Raises:
        TokdError: A filter has a value that is not in the tables, or no cell is left.
    """
    filters: Mapping[str, tuple[Sequence[str], Iterable[str]]] = {
        "dataset": (dataset, DATASETS),
        "student": (student, STUDENTS),
        "method": (method, (*METHODS, *DETECTORS, "teacher")),
        "branches": (branches, BRANCHES),
    }
    for name, (wanted, known) in filters.items():
        for one in wanted:
            if one not in known:
                raise TokdError(f"--{name} {one}: choose from {', '.join(known)}")
    kept = [
        cell
        for cell in cells
        if (not dataset or cell.data in dataset)
        and (not student or cell.role == "teacher" or cell.backbone in student)
        and (not method or cell.method in method)
        and (not branches or cell.role != "student" or cell.branches in (*branches, "none"))
    ]
    if not kept:
        given = [f"--{n} {','.join(wanted)}" for n, (wanted, _) in filters.items() if wanted]
        raise TokdError(f"this table has no cell with {' '.join(given)}")
    return kept


def sharing(cell: GridCell, common: tuple[Option, ...]) -> GridCell:
    """Return a cell with options that all cells share; a teacher ignores those of ``model``."""
    if cell.role == "teacher":
        return teacher_of(cell.data, common)
    return replace(cell, common=common)


def settings_of(texts: Sequence[str]) -> tuple[Option, ...]:
    """Parse options that all cells share.

    Args:
        texts: ``KEY=VALUE`` each: ``trainer.…`` and ``data.…`` apply to all cells, ``model.…`` only
            to the students.

    Raises:
        TokdError: A text has another form or key, sets what the cells themselves define, or would
            keep every run from being finished.
    """
    options = []
    cells = {*NAMED, *map(_full, ("model.distiller", "model.teacher", "data.root"))}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key.split(".")[0] not in {"trainer", "data", "model"} or "." not in key:
            raise TokdError(
                f"--set {text}: write KEY=VALUE with a key of trainer, data or model, such as "
                "trainer.precision=bf16-mixed"
            )
        if {key, _full(key)} & cells:
            instead = "--data" if key == "data.root" else "the table's cells, which filters choose"
            raise TokdError(f"--set {text}: that is set by {instead}")
        if key in _NEVER_DONE:
            raise TokdError(f"--set {text}: {_NEVER_DONE[key]}, so that no run of it would be done")
        try:
            options.append((key, yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise TokdError(f"--set {text}: is not valid YAML") from error
    return tuple(options)


def over_seeds(cells: Iterable[GridCell], seeds: int, common: tuple[Option, ...]) -> list[GridCell]:
    """Return each student once per seed 0 … ``seeds`` - 1, and each teacher only with seed 0."""
    repeated: list[GridCell] = []
    for cell in cells:
        seeded = range(1 if cell.role == "teacher" else seeds)
        repeated += [replace(sharing(cell, common), seed=seed) for seed in seeded]
    return repeated


def _full(key: str) -> str:
    """Expand a short key: ``model.distiller.dim`` is nested in two ``init_args``."""
    parts, full = key.split("."), ""
    for number, part in enumerate(parts):
        full += part
        if number + 1 < len(parts):
            full += ".init_args." if ".".join(parts[: number + 1]) in _CLASSES else "."
    return full


def _is_place(key: str) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in (*PLACE, *NAMED))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
