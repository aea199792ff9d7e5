"""Scoring of files: read in parallel, scored in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tokd_lightning.deploy.engine import Engine, Floats
from tokd_lightning.deploy.found import Faces, Look, ReadOptions
from tokd_lightning.deploy.report import FrameScore, Verdict
from tokd_lightning.deploy.workers import read_all


class Options(NamedTuple):
    """Options for scoring files.

    Attributes:
        detector: Face detector.
        thresholds: Level, ``frame`` for images or ``video``, to the threshold.
        frames: Largest number of frames per video.
        batch_size: Faces per batch.
        workers: Number of reading processes.
        time_limit: Seconds per file.
        show: Whether to keep the pictures for annotation.
        stored: Side to which crops are resized first.
    """

    detector: str
    thresholds: dict[str, float]
    frames: int
    batch_size: int
    workers: int
    time_limit: float
    show: bool
    stored: int | None = None


class Heatmaps(NamedTuple):
    """Data for annotating a file: its faces and the heatmap of each."""

    looks: Sequence[Look]
    maps: Floats


def score_files(
    files: Sequence[Path], engine: Engine, options: Options
) -> Iterator[tuple[Verdict, Heatmaps | None]]:
    """Score files and yield each when it is done.

    Args:
        files: Files of any kind.
        engine: Scores faces.
        options: How to score.

    Yields:
        The verdict on a file, and its data for annotation if requested.

    Raises:
        TokdError: The detector needs a package or file that is missing, or no process can run.
    """
    model = engine.model
    wanted = ReadOptions(
        options.frames, model.size, options.detector, model.face.margin, options.show,
        options.stored, options.time_limit,
    )  # fmt: skip
    pending: list[tuple[Path, Faces]] = []
    faces = 0
    for job, found in read_all(files, wanted, options.workers, options.time_limit):
        path = files[job]
        if not found.looks:
            yield _unscored(path, found, options), None
            continue
        pending.append((path, found))
        faces += len(found.looks)
        if faces >= options.batch_size:
            yield from _score(pending, engine, options)
            pending, faces = [], 0
    yield from _score(pending, engine, options)


def _score(
    pending: Sequence[tuple[Path, Faces]], engine: Engine, options: Options
) -> Iterator[tuple[Verdict, Heatmaps | None]]:
    faces = [look.face for _, found in pending for look in found.looks]
    batches = [
        engine(np.stack(faces[start : start + options.batch_size]))
        for start in range(0, len(faces), options.batch_size)
    ]
    if not batches:
        return
    p_fake = np.concatenate([batch.p_fake for batch in batches])
    maps = np.concatenate([batch.heat for batch in batches])
    start = 0
    for path, found in pending:
        own = slice(start, start + len(found.looks))
        start = own.stop
        scores = [
            FrameScore(look.frame, look.time, float(score), look.box)
            for look, score in zip(found.looks, p_fake[own], strict=True)
        ]
        verdict = Verdict(
            path,
            found.kind,
            found.status,
            float(p_fake[own].mean()),
            options.thresholds["video" if found.kind == "video" else "frame"],
            scores,
            found.note,
        )
        yield verdict, Heatmaps(found.looks, maps[own]) if options.show else None


def _unscored(path: Path, found: Faces, options: Options) -> Verdict:
    level = "video" if found.kind == "video" else "frame"
    threshold = options.thresholds[level]
    return Verdict(path, found.kind, found.status, None, threshold, (), found.note)
