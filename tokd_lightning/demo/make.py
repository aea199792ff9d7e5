"""Creation of the demo: check arguments, reuse or resume a tree, make pairs in parallel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from tokd_lightning.data.parallel import in_processes
from tokd_lightning.demo.cast import Cast, PhotographCast, ProceduralCast
from tokd_lightning.demo.tree import (
    PairJob,
    finish_tree,
    make_pair,
    remove_parts,
    split_pairs,
    write_notice,
)
from tokd_lightning.demo.video import encoder_options
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_json

DEFAULT_IDENTITIES = 120
# Incremented whenever the same arguments give different pictures.
_RECIPE = 1
_MASKS = "manipulated_sequences/*/masks"
_NO_MASKS = "; it has no masks, which Multi-task trains with: delete it, and it is made with them"
_RECORD = "demo.json"
_FEWEST = 6


def make_demo(
    out: Path,
    identities: int | None = None,
    faces: Path | None = None,
    landmarks: Path | None = None,
    quality: Sequence[str] = ("c23", "c40"),
    seed: int = 0,
    frames: int = 12,
    size: int = 128,
    workers: int | None = None,
) -> None:
    """Make a mini-FF++: real clips and four kinds of forgeries in the official tree.

    Equal arguments give equal frames, whatever the number of workers. A tree finished with the
    same arguments is left unchanged; an interrupted one is completed.

    Args:
        out: Folder to fill; new, empty, or holding an earlier demo of the same arguments.
        identities: Number of identities, even, at least 6; default 120, or all photographs.
        faces: Folder of frontal photographs to use; default: procedural faces.
        landmarks: The photographs' points, see :class:`~.cast.PhotographCast`.
        quality: Quality folders to make, as FF++ names them: ``raw``, ``c0``, ``c23``, ``c40``.
        seed: Seed of everything random, at least 0.
        frames: Frames per clip, at least 1.
        size: Side of a frame in pixels, a multiple of 8, at least 32.
        workers: Number of processes; default one per core.

    Raises:
        TokdError: Arguments are invalid, photographs cannot be used, the folder holds something
            else, or the output cannot be written.
    """
    qualities = tuple(dict.fromkeys(quality))
    _check(identities, faces, landmarks, qualities, seed, frames, size)
    cast: Cast
    if faces is not None and landmarks is not None:
        cast = PhotographCast(faces, landmarks, identities, seed)
        people = len(cast)
    else:
        cast, people = ProceduralCast(seed, 2 * size), identities or DEFAULT_IDENTITIES
    if people < _FEWEST:
        raise TokdError(f"{people} identities are too few: each split needs a pair, so give 6")
    record = {"recipe": _RECIPE, "identities": people, "source": cast.source}
    record |= {"quality": sorted(qualities), "seed": seed, "frames": frames, "size": size}
    if _finished_before(out, record):
        note = "" if any(out.glob(_MASKS)) else _NO_MASKS
        print(f"{out}: made earlier with the same arguments, reused{note}")
        return
    jobs = [PairJob(cast, n, out, qualities, seed, frames, size) for n in range(0, people, 2)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / _RECORD, record | {"finished": False})
        write_notice(out, people, cast.source, frames, size, qualities)
        _make_pairs([job for job in jobs if not job.part.exists()], workers)
        finish_tree(out, jobs, split_pairs(people))
        write_json(out / _RECORD, record | {"finished": True})
        remove_parts(out)
    except OSError as error:
        raise TokdError(f"{out} cannot be written: {error}") from error


def _check(
    identities: int | None,
    faces: Path | None,
    landmarks: Path | None,
    quality: tuple[str, ...],
    seed: int,
    frames: int,
    size: int,
) -> None:
    if (faces is None) != (landmarks is None):
        raise TokdError("--faces and --landmarks belong together: give both or neither")
    if identities is not None and (identities < _FEWEST or identities % 2):
        message = f"{identities} identities cannot be paired and split: give an even number >= 6"
        raise TokdError(message)
    if not quality:
        raise TokdError("no quality was named: give at least one, as c23")
    for name in quality:
        encoder_options(name)
    if seed < 0 or frames < 1 or size < 32 or size % 8:
        wanted = "seed must be >= 0, frames >= 1, size a multiple of 8 and >= 32"
        raise TokdError(f"seed {seed}, frames {frames}, size {size}: {wanted}")


def _finished_before(out: Path, record: dict[str, Any]) -> bool:
    """Return whether this demo is complete; raise if the folder holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        earlier = json.loads((out / _RECORD).read_text(encoding="utf-8"))
        finished = earlier.pop("finished")
    except (OSError, ValueError, AttributeError, KeyError):
        message = f"{out} exists and is not a demo made by tokd: choose another --out, or empty it"
        raise TokdError(message) from None
    if earlier != record:
        differing = [key for key in record if earlier.get(key) != record[key]]
        message = f"{out} holds a demo made with another {', '.join(differing)}"
        raise TokdError(f"{message}: choose another --out, or delete it")
    return bool(finished)


def _make_pairs(jobs: list[PairJob], workers: int | None) -> None:
    note = f"demo: filming and forging {len(jobs)} pairs"
    for _ in track(in_processes(make_pair, jobs, workers), note, total=len(jobs)):
        pass
