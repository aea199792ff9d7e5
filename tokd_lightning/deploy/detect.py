"""``tokd detect``: score images, folders and videos with an exported student."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokd_lightning.deploy.detector import Detector, Which
from tokd_lightning.deploy.engine import Backend
from tokd_lightning.deploy.files import Files, find_files, standard_input
from tokd_lightning.deploy.live import How, follow_camera, follow_folder
from tokd_lightning.deploy.record import Model, open_model
from tokd_lightning.deploy.report import (
    Verdict,
    comma_separated,
    document,
    no_face_by_class,
    printable,
    table,
)
from tokd_lightning.errors import TokdError


def detect(
    model: Path,
    paths: Sequence[str | Path],
    *,
    json: bool = False,
    csv: bool = False,
    annotate: Path | None = None,
    backend: Backend = "onnx",
    frames: int = 32,
    detector: str | None = None,
    threshold: float | None = None,
    faces: Which = "largest",
    batch_size: int = 32,
    workers: int | None = None,
    time_limit: float = 60.0,
    camera: str | None = None,
    watch: Path | None = None,
) -> int:
    """Score files and print which are classified as fake.

    Args:
        model: Folder written by ``tokd export``, or a file in it.
        paths: Images, videos, and folders of them; ``-`` is a file on standard input.
        json: Whether to print a JSON document instead of the table.
        csv: Whether to print a CSV row per file instead of the table.
        annotate: Folder for pictures and plots.
        backend: ``onnx`` or ``torch``.
        frames: Largest number of frames per video.
        detector: Face detector; by default the model's.
        threshold: P(fake) above which a file is classified as fake; by default the model's.
        faces: Whether to score the largest face of a file or all of them.
        batch_size: Faces per batch.
        workers: Number of reading processes; one per core by default.
        time_limit: Seconds per file.
        camera: Camera to score once a second instead of files, until interrupted.
        watch: Folder whose new files to score instead, until interrupted.

    Returns:
        The exit code: 0 for any verdicts; 1 if no file could be scored.

    Raises:
        TokdError: The model or an option is invalid, there is nothing to score, or the folder for
            pictures cannot be written.
    """
    if workers is not None and workers < 1:
        raise TokdError(f"--workers must be at least 1, not {workers}")
    if not time_limit > 0:
        raise TokdError(f"--time-limit must be above 0, not {time_limit}")
    if sum((bool(paths), camera is not None, watch is not None)) > 1:
        raise TokdError("paths, --camera and --watch exclude each other: give one of them")
    opened = open_model(Path(model))
    with standard_input(paths) as found:
        live = camera is not None or watch is not None
        files = Files([], 0) if live else find_files(found.paths)
        if annotate is not None:
            if live:
                raise TokdError("--annotate needs files: leave --camera and --watch out")
            _refuse_unwritable(annotate)
        scorer = Detector(
            opened, backend=backend, detector=detector, threshold=threshold, faces=faces,
            frames=frames, batch_size=batch_size,
        )  # fmt: skip
        for warning in opened.warnings if live else ():
            print(f"warning: {printable(opened.name)}: {warning}", file=sys.stderr)
        how: How = "json" if json else "csv" if csv else "line"
        if camera is not None:
            return follow_camera(scorer, camera, how)
        if watch is not None:
            limits = {"workers": workers, "time_limit": time_limit}
            return follow_folder(scorer, watch, how, **limits)
        verdicts: dict[Path | None, Verdict] = {}
        drawn: list[Path] = []
        taken: set[str] = set()
        undrawn: TokdError | None = None
        scored = scorer.score_files(
            files.found, workers=workers, time_limit=time_limit, show=annotate is not None
        )
        with _progress(len(files.found)) as advance:
            for verdict, heat in scored:
                verdicts[verdict.path] = found.named(verdict)
                if annotate is not None and heat is not None and undrawn is None:
                    from tokd_lightning.deploy.annotate import annotate_file

                    try:
                        drawn += annotate_file(annotate, verdict, heat, opened, taken)
                    except TokdError as error:  # keep scoring; raised after the scores are printed
                        undrawn = error
                advance()
    ordered = [verdicts[path] for path in files.found]
    about = {
        "backend": backend, "detector": scorer.detector, "thresholds": scorer.thresholds,
        "faces": faces,
    }  # fmt: skip
    if json:
        print(jsonlib.dumps(document(ordered, opened, about), indent=2))
    elif csv:
        print(comma_separated(ordered), end="")
    else:
        _print(ordered, files, opened, about)
    for warning in opened.warnings:
        print(f"warning: {printable(opened.name)}: {warning}", file=sys.stderr)
    if drawn:
        print(f"{len(drawn)} pictures: {annotate}", file=sys.stderr)
    if undrawn is not None:
        raise undrawn
    return 0 if any(one.p_fake is not None for one in ordered) else 1


def _print(verdicts: Sequence[Verdict], files: Files, model: Model, about: dict[str, Any]) -> None:
    from rich.console import Console

    from tokd_lightning.terminal import keep_words

    console = Console()
    scored = [one for one in verdicts if one.p_fake is not None]
    if scored:
        console.print(keep_words(table(scored), console))
    for one in verdicts:
        if one.p_fake is None:
            line = f"not scored: {printable(str(one.path))}: {printable(one.note)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    fake = sum(one.verdict == "fake" for one in scored)
    said = f"{len(scored)} of {len(verdicts)} files scored, {fake} called fake"
    if files.passed_over:
        said += f"; {files.passed_over} others in the folders are neither images nor videos by name"
    if about["detector"] == "none":
        said += "; pictures are taken whole, no face is looked for"
    if shares := no_face_by_class(verdicts):
        classes = (f"{part['no_face']} of {part['files']} {name}" for name, part in shares.items())
        said += f"; no face on {' and '.join(classes)} files, by their folders' names"
    values = " and ".join(f"{v:.3f} ({level}s)" for level, v in about["thresholds"].items())
    console.print(
        f"{said}. Threshold {values}. {printable(model.name)}; a score is no proof about a person.",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show a progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _refuse_unwritable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise TokdError(f"--annotate {folder} cannot be written")
