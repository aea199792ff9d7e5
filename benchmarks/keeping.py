"""Parts measured one after the other and saved when finished; finished parts are skipped."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import benchmarks
from benchmarks.figures import Row
from benchmarks.judged import Part, Sizes
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text
from tokd_lightning.runs.provenance import source_hash, versions

Kept = dict[str, Any]


def about(sizes: Sizes) -> Kept:
    """Return what a figure depends on: machine, code, versions and sizes."""
    digest = hashlib.sha256()
    for path in sorted(Path(benchmarks.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": 1,
        "versions": versions(),
        "sources": [source_hash(), digest.hexdigest()],
        "sizes": json.loads(json.dumps(sizes._asdict())),
    }


def kept(file: Path, now: Kept, rerun: bool, console: Console) -> dict[str, Kept]:
    """Return the parts that an earlier call finished under the same conditions.

    Args:
        file: The JSON file; if its conditions differ, or with ``rerun``, it is renamed ``….old``.
        now: The result of :func:`about`.
        rerun: Whether to start again.
        console: Prints what was set aside, and why.

    Raises:
        TokdError: The file is not one of ours, or cannot be set aside.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
        parts: dict[str, Kept] = found.get("parts", {})
        differ = [key for key, value in now.items() if found.get(key) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise TokdError(f"{file} cannot be read ({error}): move it away, or give --out") from error
    if not rerun and not differ:
        return parts
    old = file.with_suffix(file.suffix + ".old")
    try:
        file.replace(old)
    except OSError as error:
        raise TokdError(f"{file} cannot be set aside: {error.strerror or error}") from error
    why = "--rerun" if rerun else f"it has other {', '.join(differ)}"
    say(console, f"set aside as {old}: {why}")
    return {}


def measure(
    parts: Sequence[Part], sizes: Sizes, file: Path, rerun: bool, console: Console
) -> tuple[dict[str, Kept], list[str]]:
    """Measure the unfinished parts; the JSON is written after every part.

    Args:
        parts: The parts.
        sizes: Sizes of the measurements.
        file: The JSON file.
        rerun: Whether to start again.
        console: Prints progress and failed parts, which do not end the others.

    Returns:
        Part -> its saved results, for all parts in the file; and the names of the failed parts.

    Raises:
        TokdError: The file cannot be read or written.
    """
    now = about(sizes)
    done, failed = kept(file, now, rerun, console), []
    write(file, now, done)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(parts))
        for part in parts:
            name = part.__name__
            if name not in done:
                progress.update(task, description=name)
                start, spent = time.time(), time.perf_counter()
                rows: list[Row] = []
                try:
                    for row in part(sizes):
                        rows.append(row)
                        progress.update(task, description=f"{name}: {row.what}")
                except Exception as error:  # an error in one part must not end the others
                    say(console, f"{name} failed: {type(error).__name__}: {error}")
                    failed.append(name)
                else:
                    done[name] = {
                        "date": time.strftime("%Y-%m-%d", time.gmtime(start)),
                        "seconds": round(time.perf_counter() - spent, 1),
                        "load": load(),
                        "rows": [row.as_json() for row in rows],
                    }
                    write(file, now, done)
            progress.advance(task)
    return done, failed


def say(console: Console, text: str) -> None:
    """Print a line without wrapping, however long."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def load() -> float | None:
    """Return the system's load average over the last minute; None if unavailable."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def write(file: Path, now: Kept, parts: dict[str, Kept]) -> None:
    """Write the JSON atomically; ``results`` are the rows of all parts.

    Raises:
        TokdError: The file cannot be written.
    """
    results = [row | {"part": name} for name, part in parts.items() for row in part["rows"]]
    text = json.dumps({**now, "parts": parts, "results": results}, indent=2)
    write_text(file, text + "\n")
