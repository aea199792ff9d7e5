"""Output of ``tokd detect``: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tokd_lightning.deploy.record import Model

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_BAR = 20
_FOLDERS = {
    "real": {"real", "original_sequences", "celeb-real", "youtube-real"},
    "fake": {"fake", "manipulated_sequences", "celeb-synthesis"},
}
_COLOURS = {"fake": "red", "real": "green"}
COLUMNS = (
    *("path", "kind", "status", "p_fake", "verdict", "threshold", "frames", "note"),
    *("faces", "warnings"),
)


class FrameScore(NamedTuple):
    """Score of one face in one frame.

    Attributes:
        frame: Index in the video; 0 for an image.
        time: Seconds from the video's start; None for an image.
        p_fake: Probability of fake.
        box: The crop, margin included: x, y, width and height in pixels of the picture.
        face: Which of the file's faces it is; 0 is the largest.
    """

    frame: int
    time: float | None
    p_fake: float
    box: tuple[int, int, int, int]
    face: int = 0


class FaceScore(NamedTuple):
    """Score of one face of a file.

    Attributes:
        p_fake: Mean P(fake) of its frames.
        verdict: ``fake`` or ``real``.
        box: The crop in its first frame: x, y, width and height in pixels of the picture.
        frames: Its score in every frame, in order of time.
    """

    p_fake: float
    verdict: str
    box: tuple[int, int, int, int]
    frames: Sequence[FrameScore]


class Verdict(NamedTuple):
    """Verdict on one file.

    Attributes:
        path: The file; None for a picture that was not read from one.
        kind: ``image``, ``video`` or ``unknown``.
        status: ``scored``, ``no_face``, ``unreadable``, ``too_large`` or ``too_slow``.
        p_fake: Mean P(fake) of a face's frames, the highest of all faces; None if it was not
            scored.
        threshold: A file with P(fake) above it is classified as fake.
        frames: Its scored frames.
        note: Why it was not scored, or what is wrong with it.
        warnings: Reasons why its score means little.
    """

    path: Path | None
    kind: str
    status: str
    p_fake: float | None
    threshold: float
    frames: Sequence[FrameScore] = ()
    note: str = ""
    warnings: Sequence[str] = ()

    @property
    def faces(self) -> list[FaceScore]:
        """Its faces, the largest first."""
        found = []
        for number in sorted({frame.face for frame in self.frames}):
            own = [frame for frame in self.frames if frame.face == number]
            mean = float(np.mean([frame.p_fake for frame in own]))
            verdict = "fake" if mean > self.threshold else "real"
            found.append(FaceScore(mean, verdict, own[0].box, own))
        return found

    @property
    def verdict(self) -> str | None:
        """``fake`` or ``real``; None if it was not scored."""
        if self.p_fake is None:
            return None
        return "fake" if self.p_fake > self.threshold else "real"


def table(verdicts: Sequence[Verdict]) -> Table:
    """Return a table of the scored files, with a bar each."""
    from rich.table import Table
    from rich.text import Text

    notes = ["; ".join(filter(None, (one.note, *one.warnings))) for one in verdicts]
    noted = any(notes)
    shown = Table(box=None, pad_edge=False)
    shown.add_column("file", overflow="fold")
    shown.add_column("frames", justify="right")
    shown.add_column("P(fake)", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    if noted:
        shown.add_column("note", overflow="fold")
    for one, note in zip(verdicts, notes, strict=True):
        cells = [
            Text(printable(str(one.path))),
            Text(str(len(one.frames))),
            bar(one),
            Text(str(one.verdict), _COLOURS[str(one.verdict)]),
        ]
        shown.add_row(*cells, *([Text(printable(note), "dim")] if noted else []))
    return shown


def bar(one: Verdict) -> Text:
    """Return P(fake) as a bar, with the threshold as a line in it."""
    from rich.text import Text

    share, stroke = one.p_fake or 0.0, min(_BAR - 1, int(one.threshold * _BAR))
    filled = round(share * _BAR)
    text = Text()
    for place in range(_BAR):
        mark = "│" if place == stroke else "█" if place < filled else "░"
        text.append(mark, _COLOURS[one.verdict or "real"] if mark == "█" else "dim")
    return text.append(f" {share:.3f}")


def document(verdicts: Sequence[Verdict], model: Model, about: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document.

    Args:
        verdicts: Verdicts on all files.
        model: The model that scored them.
        about: Backend, detector and thresholds used.
    """
    trained = model.record.get("trained", {})
    return {
        "model": {
            "name": model.name,
            "weights": trained.get("weights"),
            **about,
            "warnings": model.warnings,
        },
        "counts": dict(Counter(one.status for one in verdicts)),
        "no_face_by_class": no_face_by_class(verdicts),
        "files": [as_dict(one) for one in verdicts],
    }


def as_dict(one: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON object."""
    faces = [
        {"p_fake": face.p_fake, "verdict": face.verdict, "box": face.box} for face in one.faces
    ]
    return {
        **one._asdict(),
        "path": str(one.path),
        "verdict": one.verdict,
        "faces": faces,
        "frames": [frame._asdict() for frame in one.frames],
        "warnings": list(one.warnings),
    }


def no_face_by_class(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Count the files without a face among the real and the fake ones.

    The class is taken from the folder names that data sets use (``real``, ``fake``,
    ``original_sequences``, ``Celeb-synthesis`` …).

    Args:
        verdicts: Verdicts on all files.

    Returns:
        Class -> ``files`` and ``no_face``; empty unless both classes are present and at least one
        file has no face.
    """
    found: dict[str, Counter[str]] = {"real": Counter(), "fake": Counter()}
    for one in verdicts:
        folders = {part.casefold() for part in (one.path or Path()).parts[:-1]}
        classes = [name for name, names in _FOLDERS.items() if folders & names]
        if len(classes) == 1:
            found[classes[0]].update(files=1, no_face=int(one.status == "no_face"))
    if not all(counts["files"] for counts in found.values()):
        return {}
    if not any(counts["no_face"] for counts in found.values()):
        return {}
    return {name: dict(counts) for name, counts in found.items()}


def comma_separated(verdicts: Sequence[Verdict]) -> str:
    """Return CSV with the columns :data:`COLUMNS`, one row per file."""
    return "".join([",".join(COLUMNS) + "\n", *map(csv_row, verdicts)])


def csv_row(one: Verdict) -> str:
    """Return a verdict as a row of CSV."""
    lines = io.StringIO()
    path = str(one.path).encode("utf-8", "backslashreplace").decode()
    score = "" if one.p_fake is None else f"{one.p_fake:.6f}"
    said = (one.verdict or "", f"{one.threshold:.6f}", len(one.frames), printable(one.note))
    also = (len({frame.face for frame in one.frames}), printable("; ".join(one.warnings)))
    csv.writer(lines, lineterminator="\n").writerow(
        (path, one.kind, one.status, score, *said, *also)
    )
    return lines.getvalue()


def printable(text: str) -> str:
    """Replace unprintable characters, since names are untrusted and could move the cursor."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
