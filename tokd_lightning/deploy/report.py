"""Output of ``tokd detect``: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from tokd_lightning.deploy.record import Model

_BAR = 20
_FOLDERS = {
    "real": {"real", "original_sequences", "celeb-real", "youtube-real"},
    "fake": {"fake", "manipulated_sequences", "celeb-synthesis"},
}
_COLOURS = {"fake": "red", "real": "green"}
COLUMNS = ("path", "kind", "status", "p_fake", "verdict", "threshold", "frames", "note")


class FrameScore(NamedTuple):
    """One scored face: frame, seconds, P(fake), and the crop as x, y, width, height."""

    frame: int
    time: float | None
    p_fake: float
    box: tuple[int, int, int, int]


class Verdict(NamedTuple):
    """Verdict on one file.

    Attributes:
        path: The file.
        kind: ``image``, ``video`` or ``unknown``.
        status: ``scored``, ``no_face``, ``unreadable``, ``too_large`` or ``too_slow``.
        p_fake: Mean P(fake) of its frames; None if it was not scored.
        threshold: A file with P(fake) above it is classified as fake.
        frames: Its scored frames.
        note: Why it was not scored, or what is wrong with it.
    """

    path: Path
    kind: str
    status: str
    p_fake: float | None
    threshold: float
    frames: Sequence[FrameScore] = ()
    note: str = ""

    @property
    def verdict(self) -> str | None:
        """``fake`` or ``real``; None if it was not scored."""
        if self.p_fake is None:
            return None
        return "fake" if self.p_fake > self.threshold else "real"


def table(verdicts: Sequence[Verdict]) -> Table:
    """Return a table of the scored files, with a bar each."""
    noted = any(one.note for one in verdicts)
    shown = Table(box=None, pad_edge=False)
    shown.add_column("file", overflow="fold")
    shown.add_column("frames", justify="right")
    shown.add_column("P(fake)", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    if noted:
        shown.add_column("note", overflow="fold")
    for one in verdicts:
        cells = [
            Text(printable(str(one.path))),
            Text(str(len(one.frames))),
            bar(one),
            Text(str(one.verdict), _COLOURS[str(one.verdict)]),
        ]
        shown.add_row(*cells, *([Text(printable(one.note), "dim")] if noted else []))
    return shown


def bar(one: Verdict) -> Text:
    """Return P(fake) as a bar, with the threshold as a line in it."""
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
        "files": [
            {
                **one._asdict(),
                "path": str(one.path),
                "verdict": one.verdict,
                "frames": [frame._asdict() for frame in one.frames],
            }
            for one in verdicts
        ],
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
        folders = {part.casefold() for part in one.path.parts[:-1]}
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
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in verdicts:
        path = str(one.path).encode("utf-8", "backslashreplace").decode()
        score = "" if one.p_fake is None else f"{one.p_fake:.6f}"
        said = (one.verdict or "", f"{one.threshold:.6f}", len(one.frames), printable(one.note))
        writer.writerow((path, one.kind, one.status, score, *said))
    return lines.getvalue()


def printable(text: str) -> str:
    """Replace unprintable characters, since names are untrusted and could move the cursor."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
