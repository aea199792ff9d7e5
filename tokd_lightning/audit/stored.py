"""Stored scores of a run: its own test, its evaluations, its validation split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import frame_and_video_metrics, video_table
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config
from tokd_lightning.runs.provenance import belongs
from tokd_lightning.runs.record import RunRecord

_COMPARED = ("val/frame/acc", "val/frame/auc", "val/video/auc")
_SAME = 1e-4
_TEXTS = ("path", "dataset", "method", "video", "target", "source", "quality")


@dataclass(frozen=True)
class Scored:
    """Scores of a run on one data set.

    Args:
        name: The data set and its quality: ``ffpp-c40``; of an evaluation, its folder's name.
        frames: One row per frame.
        own: Whether it is the run's own test.
        data: Name, quality and path of an evaluation's data; empty for the own test.
    """

    name: str
    frames: pd.DataFrame
    own: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def videos(self) -> pd.DataFrame:
        """One row per video, see :func:`~tokd_lightning.metrics.classification.video_table`."""
        return video_table(self.frames)


@dataclass(frozen=True)
class Stored:
    """What a run folder holds for an audit.

    Args:
        run: The run.
        record: Its ``metrics.json``; None without one.
        config: Its ``fit.yaml``; empty without one.
        scored: Its own test first, then its evaluations on other data.
        validation: Scores on its own validation split; None without any.
        notes: What was left out, and why.
    """

    run: Run
    record: RunRecord | None
    config: Config
    scored: tuple[Scored, ...]
    validation: pd.DataFrame | None
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.folder.resolve().name


def has_scores(folder: Path) -> bool:
    """Return whether a run folder holds scores of a test or an evaluation."""
    return (folder / "test_frames.csv").is_file() or any(folder.glob("evaluations/*/frames.csv"))


def read_stored(folder: Path) -> Stored:
    """Read the stored scores of a run.

    Evaluations of other weights than the run's, and those of the frames of its own test, are left
    out.

    Args:
        folder: The run's folder.

    Raises:
        TokdError: It is not a run folder, it has no scores, or a file cannot be read.
    """
    run = Run(folder)
    if not any((folder / name).is_file() for name in ("metrics.json", "fit.yaml")):
        problem = "is not a run folder" if folder.is_dir() else "does not exist"
        raise TokdError(f"{folder} {problem}: name folders that tokd fit made, runs/NAME")
    record, config = run.results(), run.config() or {}
    weights = record.hash_of("weights") if record else ""
    scored: list[Scored] = []
    notes: list[str] = []
    test = folder / "test_frames.csv"
    if test.is_file() and record is not None:
        name = record.cell.data if record.cell else "test"
        table = read_frames(test)
        _refuse_another(test, table, record)
        scored.append(Scored(name, table, own=True))
    for name, evaluated in run.evaluations().items():
        frames = folder / "evaluations" / name / "frames.csv"
        if evaluated.get("split") != "test":
            continue
        if belongs(evaluated, weights) is False:
            notes.append(f"{name} is of weights that the run no longer has: tokd evaluate --update")
        elif not frames.is_file():
            notes.append(f"{name} has no frames.csv: tokd evaluate --force")
        else:
            table = read_frames(frames)
            if scored and scored[0].own and _same_frames(scored[0].frames, table):
                notes.append(f"{name} has the frames of the run's own test and is not repeated")
            else:
                taken = any(one.name == name for one in scored)
                label = f"{name} (evaluated)" if taken else name
                scored.append(Scored(label, table, data=dict(evaluated.get("data") or {})))
    if not scored:
        raise TokdError(
            f"{folder} has no stored scores: tokd test --config {folder / 'fit.yaml'}, or "
            "tokd evaluate"
        )
    validation = stored_validation(run, weights)
    return Stored(run, record, config, tuple(scored), validation, tuple(notes))


def read_frames(file: Path) -> pd.DataFrame:
    """Read a table of scores without loss of precision, and check it.

    Raises:
        TokdError: It is not one.
    """
    try:
        table = pd.read_csv(
            file, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False,
            float_precision="round_trip",
        )  # fmt: skip
        frame_and_video_metrics(table)
    except TokdError as error:
        raise TokdError(f"{file}: {error}") from error
    except (OSError, ValueError, KeyError) as error:
        raise TokdError(f"{file} is not a table of scores: {error}") from error
    return table


def _refuse_another(test: Path, table: pd.DataFrame, record: RunRecord) -> None:
    accuracy = record.metrics.get("test/frame/acc")
    right = float(((table["p_fake"] > 0.5) == (table["label"] == 1)).mean())
    if accuracy is not None and abs(right - accuracy) > _SAME:
        raise TokdError(f"{test} has another accuracy than metrics.json: test the run again")


def stored_validation(run: Run, weights: str) -> pd.DataFrame | None:
    """Return the scores of an evaluation of these weights on the run's own validation split.

    The split is recognised by its metrics, which equal those of the run's own validation. Fakes of
    the methods that the run leaves out are not among them.

    Args:
        run: The run.
        weights: Hash of the weights.

    Returns:
        One row per frame; None if there is no such evaluation.

    Raises:
        TokdError: A file of the run cannot be read.
    """
    record = run.results()
    if record is None:
        return None
    own, (_, left_out) = record.metrics, trained_methods(run.config() or {})
    for name, evaluated in run.evaluations().items():
        scored = (evaluated.get("hashes") or {}).get("checkpoint")
        frames = run.folder / "evaluations" / name / "frames.csv"
        if evaluated.get("split") != "val" or scored != weights or not frames.is_file():
            continue
        table, found = read_frames(frames), evaluated.get("metrics") or {}
        if left_out:
            table = table[(table["label"] == 0) | ~table["method"].isin(left_out)]
            found = {f"val/{k}": v for k, v in frame_and_video_metrics(table).items()}
        pairs = [(found.get(key), own.get(key)) for key in _COMPARED]
        if all(a is not None and b is not None and abs(a - b) < _SAME for a, b in pairs):
            return table
    return None


def read_scores(file: Path) -> pd.DataFrame:
    """Read stored scores without loss of precision."""
    return pd.read_csv(file, dtype={"video": str, "method": str}, float_precision="round_trip")


def trained_methods(config: Config) -> tuple[Sequence[str] | None, Sequence[str]]:
    """Return the forgeries that a run was trained on, None for all, and those it left out."""
    given = (config.get("data") or {}).get("init_args") or {}
    methods, left_out = given.get("methods"), given.get("leave_out") or ()
    return (None if methods is None else tuple(methods)), tuple(left_out)


def forges(config: Config) -> bool:
    """Return whether a run forges its own fakes for training and validation."""
    return bool(((config.get("data") or {}).get("init_args") or {}).get("forge"))


def _same_frames(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    if "path" not in a or "path" not in b or len(a) != len(b):
        return False
    return set(zip(a["path"], a["label"], strict=True)) == set(
        zip(b["path"], b["label"], strict=True)
    )
