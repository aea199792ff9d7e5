"""Scores while they arise: from a camera, or from a folder that files arrive in."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tokd_lightning.deploy.detector import Detector
from tokd_lightning.deploy.files import find_files
from tokd_lightning.deploy.found import Picture
from tokd_lightning.deploy.report import COLUMNS, Verdict, as_dict, bar, csv_row, printable
from tokd_lightning.errors import TokdError

How = Literal["line", "json", "csv"]
_EVERY = 1.0  # seconds


def follow_camera(scorer: Detector, camera: str, how: How) -> int:
    """Score a picture of a camera every second and print it, until interrupted.

    Args:
        scorer: Scores pictures.
        camera: Number of a camera, or the device's name.
        how: A line for people, a line of JSON, or a row of CSV.

    Returns:
        The exit code, 0: the camera was closed or the user interrupted.

    Raises:
        TokdError: The camera cannot be opened.
    """
    with suppress(KeyboardInterrupt):
        _head(how)
        for picture, seconds in camera_pictures(camera):
            verdict = scorer.score(picture)
            frames = [frame._replace(time=seconds) for frame in verdict.frames]
            _say(verdict._replace(path=Path(f"{camera} at {seconds:.1f} s"), frames=frames), how)
    return 0


def camera_pictures(camera: str) -> Iterator[tuple[Picture, float]]:
    """Yield the newest picture of a camera every second, with the seconds since the first.

    Args:
        camera: Number of a camera, or the device's name (a file works, too).

    Raises:
        TokdError: It cannot be opened.
    """
    import av

    from tokd_lightning.data.video import DAMAGE, Source

    name, kind = _device(camera)
    try:
        with av.open(name, "r", format=kind) as container:
            source = Source(Path(name))
            first, last = time.monotonic(), -_EVERY
            for frame in container.decode(video=0):
                now = time.monotonic() - first
                if kind is None and frame.time is not None:
                    now = frame.time  # a file is read faster than it was filmed
                if now - last >= _EVERY:
                    last = now
                    yield source.upright(frame), now
    except DAMAGE as error:
        said = getattr(error, "strerror", None) or error
        raise TokdError(f"--camera {camera} cannot be read: {said}") from error


def _device(camera: str) -> tuple[str, str | None]:
    """Return what FFmpeg calls a camera, and its input format."""
    if Path(camera).is_file():
        return camera, None
    if sys.platform == "darwin":
        return camera, "avfoundation"
    if sys.platform == "win32":
        return camera if "=" in camera else f"video={camera}", "dshow"
    return f"/dev/video{camera}" if camera.isdigit() else camera, "v4l2"


def follow_folder(scorer: Detector, folder: Path, how: How, **limits: Any) -> int:
    """Score the files of a folder, then every file that arrives in it, until interrupted.

    Args:
        scorer: Scores files.
        folder: The folder, with those inside it.
        how: A line for people, a line of JSON, or a row of CSV.
        **limits: ``workers`` and ``time_limit`` of :meth:`Detector.score_files`.

    Returns:
        The exit code, 0: the user interrupted.

    Raises:
        TokdError: The folder does not exist.
    """
    if not folder.is_dir():
        raise TokdError(f"--watch {folder} does not exist")
    with suppress(KeyboardInterrupt):
        _head(how)
        for files in arrivals(folder):
            for verdict, _ in scorer.score_files(files, **limits):
                _say(verdict, how)
    return 0


def arrivals(folder: Path) -> Iterator[list[Path]]:
    """Yield new and changed images and videos of a folder, once they have stopped growing.

    Args:
        folder: The folder; it is looked at once a second.
    """
    done: dict[Path, tuple[int, int]] = {}
    seen: dict[Path, tuple[int, int]] = {}
    while True:
        now = {}
        with suppress(TokdError):  # no files yet
            for path in find_files([folder]).found:
                with suppress(OSError):  # it has gone
                    state = path.stat()
                    now[path] = state.st_size, state.st_mtime_ns
        ready = [path for path in now if now[path] == seen.get(path) != done.get(path)]
        done |= {path: now[path] for path in ready}
        seen = now
        if ready:
            yield ready
        time.sleep(_EVERY)


def _head(how: How) -> None:
    if how == "csv":
        print(",".join(COLUMNS), flush=True)


def _say(verdict: Verdict, how: How) -> None:
    if how == "csv":
        text = csv_row(verdict).rstrip("\n")
    elif how == "json":
        text = json.dumps(as_dict(verdict))
    else:
        said = "; ".join(filter(None, (verdict.note, *verdict.warnings)))
        scored = verdict.p_fake is not None
        parts = [str(verdict.path), bar(verdict).plain if scored else "not scored"]
        text = printable("  ".join(filter(None, (*parts, verdict.verdict or "", said))))
    print(text, flush=True)
