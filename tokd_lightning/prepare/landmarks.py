"""Landmarks of stored frames: dlib's 68 points, or those of a file, written next to the frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from tokd_lightning.data.landmarks import COUNT, LANDMARKS, Points, read_landmarks, write_landmarks
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.parallel import in_processes
from tokd_lightning.data.reader import read_any, root_of
from tokd_lightning.errors import TokdError

MARGIN = 1.3
_EVERY = 1_000_000
_ALIGNED = ["method", "video", "frame"]
_MODEL = "shape_predictor_68_face_landmarks.dat"
_INSTALL = 'pip install "tokd-lightning[landmarks]"'
_BEST_FIRST = ("original", "raw", "c0", "c23", "c40")

Predictor = Callable[[NDArray[np.uint8], float], Points]


class _Job(NamedTuple):
    """Frames of one video: their keys, and their files relative to the root."""

    keys: list[list[str]]
    paths: list[str]
    root: Path
    margin: float


class _Found(NamedTuple):
    """Points of one video's frames, None for an unreadable one."""

    keys: list[list[str]]
    points: list[Points | None]


@cache
def dlib_predictor() -> Predictor:
    """Load dlib's predictor of 68 points (Kazemi and Sullivan, CVPR 2014).

    Its model, of ``face-recognition-models``, was trained on iBUG 300-W, which excludes commercial
    use.

    Returns:
        A function of an RGB picture of one face, ``(H, W, 3)``, and of the margin: the side of the
        picture in units of the face's. It returns the points ``(68, 2)`` in pixels.

    Raises:
        TokdError: dlib or the model is not installed.
    """
    package = find_spec("face_recognition_models")
    if find_spec("dlib") is None or package is None:
        raise TokdError(f"finding landmarks needs dlib and its model: {_INSTALL}")
    import dlib

    # Importing the package needs pkg_resources, which current setuptools lack.
    place = Path((package.submodule_search_locations or [""])[0]) / "models" / _MODEL
    if not place.is_file():
        raise TokdError(f"face-recognition-models has no {_MODEL}: {_INSTALL}")
    predictor = dlib.shape_predictor(str(place))

    def find(picture: NDArray[np.uint8], margin: float) -> Points:
        height, width = picture.shape[:2]
        half = min(height, width) / margin / 2
        corners = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        shape = predictor(picture, dlib.rectangle(*(round(corner) for corner in corners)))
        return np.array([(p.x, p.y) for p in shape.parts()], np.float32)

    return find


def find_landmarks(
    path: Path,
    out: Path | None = None,
    *,
    root: Path | None = None,
    margin: float | None = None,
    workers: int | None = None,
) -> int:
    """Find 68 landmarks on every frame of a data set, and write them next to its manifest.

    In the output of ``tokd prepare`` the qualities of a frame show the same crop: the points are
    found on the best one and belong to all. In other trees every file has its own points.
    What was found earlier stays; an interrupted command continues where it stopped.

    Args:
        path: A data set of frames of any known layout.
        out: The file; None means ``<root>/landmarks.csv``.
        root: Folder that the paths of a list are relative to.
        margin: Side of the frames in units of the face's side; None takes it from
            ``prepare.json``, else 1.3.
        workers: Number of processes; default one per core.

    Returns:
        The exit code: 0, or 1 if a frame cannot be read.

    Raises:
        TokdError: An option is invalid, dlib is not installed, or the file holds something else.
    """
    if workers is not None and workers < 1:
        raise TokdError(f"--workers {workers} must be at least 1")
    if margin is not None and not 0.5 <= margin <= 10:
        raise TokdError(f"--margin {margin:g} must be from 0.5 to 10")
    place = root_of(path, root)
    manifest = read_any(path, frames_per_video=_EVERY, root=root).manifest
    if manifest.empty:
        raise TokdError(f"{path} has no frames to find landmarks on")
    known = _prepared(place)
    aligned = bool(known) and path.is_dir()
    keys = _ALIGNED if aligned else ["path"]
    if aligned:
        manifest = _best(manifest)
    file = place / LANDMARKS if out is None else out
    draft = file.with_name(f".{file.name}.part")
    margin = margin or float(known.get("margin", MARGIN))
    found = _earlier(file, keys) | _earlier(draft, keys, whole=False)
    wanted = [tuple(map(str, row)) for row in manifest[keys].itertuples(index=False, name=None)]
    there = sum(key in found for key in wanted)
    jobs = _jobs(
        manifest.assign(_key=pd.Series(wanted, index=manifest.index)), found, place, margin
    )
    if there:
        print(f"{there} of {len(wanted)} frames have landmarks already: they stay")
    unreadable: list[str] = []
    if jobs:
        dlib_predictor()  # raises before any work
        note = f"landmarks of {len(jobs)} videos"
        results = in_processes(_find, jobs, workers)
        for result in _kept(track(results, note, total=len(jobs)), draft, keys):
            for key, points in zip(result.keys, result.points, strict=True):
                if points is None:
                    unreadable.append("/".join(key))
                else:
                    found[tuple(key)] = points
    rest = [key for key in found if key not in {*wanted}]
    write_landmarks(file, keys, [(key, found[key]) for key in (*wanted, *rest) if key in found])
    draft.unlink(missing_ok=True)
    print(f"{file}: 68 points of {len(found)} frames, by dlib (iBUG 300-W: not for commercial use)")
    if unreadable:
        print(f"{len(unreadable)} frames cannot be read and have none, e.g. {unreadable[0]}")
    return 1 if unreadable else 0


def take_landmarks(file: Path, out: Path) -> int:
    """Move points of the videos' pictures into the stored crops of ``tokd prepare``.

    Args:
        file: A CSV as in :func:`~tokd_lightning.data.landmarks.read_landmarks`, with ``video`` and
            ``frame``, in pixels of the videos.
        out: Output of ``tokd prepare``, with ``manifest.csv``.

    Returns:
        The exit code: 0, or 1 if a frame has no points.

    Raises:
        TokdError: A file is missing or malformed.
    """
    manifest = pd.read_csv(out / "manifest.csv", dtype={"video": str, "quality": str})
    manifest = _best(manifest)
    points = read_landmarks(file, manifest)
    corner = manifest[["x", "y"]].to_numpy(np.float64)[:, None]
    scale = (manifest["stored"] / manifest["side"]).to_numpy(np.float64)[:, None, None]
    moved = ((points - corner + 0.5) * scale - 0.5).astype(np.float32)
    there = np.isfinite(moved).all((1, 2))
    rows = manifest.loc[there, _ALIGNED].itertuples(index=False, name=None)
    write_landmarks(out / LANDMARKS, _ALIGNED, zip(rows, moved[there], strict=True))
    lacking = int((~there).sum())
    print(f"{out / LANDMARKS}: 68 points of {int(there.sum())} frames, from {file}")
    if lacking:
        print(f"{lacking} of {len(there)} frames have no points in {file}")
    return 1 if lacking else 0


def check_source(source: str) -> None:
    """Raise if ``--landmarks`` of ``tokd prepare`` names neither dlib nor a file."""
    if source == "dlib":
        dlib_predictor()
    elif not Path(source).is_file():
        raise TokdError(
            f"--landmarks {source}: give dlib, or a CSV of points in the videos' pixels"
        )


def _prepared(root: Path) -> dict[str, Any]:
    """Return the record of ``tokd prepare``; empty for another tree."""
    try:
        return dict(json.loads((root / "prepare.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _best(manifest: pd.DataFrame) -> pd.DataFrame:
    """Keep the best quality of every frame, in the order of the manifest."""
    rank = {name: number for number, name in enumerate(_BEST_FIRST)}
    order = manifest["quality"].map(lambda name: rank.get(name, len(rank)))
    best = manifest.assign(_rank=order).sort_values("_rank", kind="stable")
    return best.drop_duplicates(_ALIGNED).sort_index().drop(columns="_rank")


def _earlier(file: Path, keys: Sequence[str], whole: bool = True) -> dict[tuple[str, ...], Points]:
    """Read the points that a file holds; of a draft, the lines that are complete.

    Raises:
        TokdError: The file has other columns, or a line is malformed.
    """
    if not file.is_file():
        return {}
    found: dict[tuple[str, ...], Points] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.reader(lines)
        header = next(rows, [])
        if header[: len(keys) + 1] != [*keys, "x0"]:
            raise TokdError(
                f"{file} holds landmarks by {', '.join(header[:3])}…, not by {', '.join(keys)}: "
                "name another file with --out, or move it away"
            )
        for number, row in enumerate(rows, 2):
            try:
                points = np.array(row[len(keys) :], np.float32).reshape(COUNT, 2)
            except ValueError as error:
                if not whole:
                    break  # the command was killed here
                raise TokdError(f"{file}, line {number}: expected 68 x, y pairs") from error
            found[tuple(row[: len(keys)])] = points
    return found


def _jobs(
    manifest: pd.DataFrame, found: dict[tuple[str, ...], Points], root: Path, margin: float
) -> list[_Job]:
    jobs = []
    waiting = manifest[[key not in found for key in manifest["_key"]]]
    for _, rows in waiting.groupby(VIDEO, sort=False):
        keys = [list(key) for key in rows["_key"]]
        jobs.append(_Job(keys, rows["path"].tolist(), root, margin))
    return jobs


def _find(job: _Job) -> _Found:
    """Find the points of one video's frames."""
    predictor = dlib_predictor()
    return _Found(job.keys, [_points(job.root / path, job.margin, predictor) for path in job.paths])


def _points(file: Path, margin: float, predictor: Predictor) -> Points | None:
    from tokd_lightning.data.decode import load_frame  # torch, which tokd prepare does not need

    try:
        image = load_frame(file)
    except ValueError:
        return None
    return predictor(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), margin)


def _kept(results: Any, draft: Path, keys: Sequence[str]) -> Iterator[_Found]:
    """Yield results, and append each to a draft, from which a killed command continues."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    known = _earlier(draft, keys, whole=False)
    write_landmarks(draft, keys, known.items())
    with draft.open("a", newline="", encoding="utf-8") as file:
        line = partial(csv.writer(file, lineterminator="\n").writerow)
        for result in results:
            for key, points in zip(result.keys, result.points, strict=True):
                if points is not None:
                    line([*key, *(f"{value:.2f}" for value in points.ravel())])
            file.flush()
            yield result
