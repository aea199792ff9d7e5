"""Preparation of one group: a real video and all fakes made from it, in one process."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tokd_lightning.data.packed import PACK_SUFFIX, write_pack
from tokd_lightning.data.qualities import CRF
from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import write_text
from tokd_lightning.prepare.boxes import Track, as_large
from tokd_lightning.prepare.changed import changed_face
from tokd_lightning.prepare.clip import Cutter, CutVideo, Problem, Shot
from tokd_lightning.prepare.finders import make_finder
from tokd_lightning.prepare.frames import encode_image
from tokd_lightning.prepare.masks import store_masks
from tokd_lightning.prepare.options import Options
from tokd_lightning.prepare.plan import Clip, Group, stamps


class GroupJob(NamedTuple):
    """One group to prepare.

    Attributes:
        group: The videos.
        root: Folder that their paths are relative to.
        out: Output folder.
        part: File that marks the group as complete; it holds the group's rows and problems.
        detector: Face detector, see :func:`~.finders.make_finder`.
        options: How faces are cropped and stored.
    """

    group: Group
    root: Path
    out: Path
    part: Path
    detector: str
    options: Options


def prepare_group(job: GroupJob) -> int:
    """Write the faces of a group's videos at all their qualities.

    Files get their final names only when complete, and the group counts as done only once its part
    file exists.

    Returns:
        Number of videos, every quality counted.

    Raises:
        TokdError: The output cannot be written.
    """
    # Groups already run in parallel; with one thread OpenCV also returns faces in a fixed order.
    cv2.setNumThreads(1)
    cutter = Cutter(make_finder(job.detector), job.options)
    rows: dict[str, list[list[Any]]] = {}
    problems: list[Problem] = []
    crfs: dict[str, CRF] = {}
    files = stamps(job.group, job.root)
    try:
        for clip, taken in _cut_all(cutter, job):
            problems += taken.problems
            crfs |= {version.out: crf for version, crf in taken.crfs.items()}
            fake = clip[0].video.method != "real"
            if job.options.masks and fake and (cut := next(iter(taken.shots.items()), None)):
                problems += store_masks(job.root, job.out, *cut, job.options.size)
            for version in clip:
                shots = taken.shots.get(version, [])
                rows[version.out] = _store(job.out / version.out, version.out, shots, job.options)
        entries = [[p.version.out, p.kind, p.detail] for p in problems]
        part = {"files": files, "rows": rows, "problems": entries, "crf": crfs}
        write_text(job.part, json.dumps(part))
    except OSError as error:
        where = error.filename or job.out
        raise TokdError(f"{where} cannot be written: {reason(error)}") from error
    return sum(map(len, job.group))


def _cut_all(cutter: Cutter, job: GroupJob) -> Iterator[tuple[Clip, CutVideo]]:
    """Cut the face out of every video of a group; among several, the manipulated one."""
    first, *fakes = job.group
    taken = cutter.cut(job.root, first)
    lent = dict.fromkeys(fakes, taken.track)
    problems: list[Problem] = []
    if first[0].video.method != "real":
        taken = _settle(cutter, job.root, first, taken)
    elif taken.others and taken.track is not None:
        faces = [taken.track, *taken.others]
        chosen = {clip: changed_face(job.root, clip, first, faces) for clip in fakes}
        known = Counter(place for place in chosen.values() if place is not None)
        usual = known.most_common(1)[0][0] if known else 0
        if usual:
            taken = cutter.cut(job.root, first, faces[usual])
        lent = {clip: faces[usual if k is None else k] for clip, k in chosen.items()}
        used = "used is the one that other fakes of it change" if known else "the largest is used"
        unsure = [clip for clip, k in chosen.items() if k is None] + ([] if known else [first])
        for clip in unsure if as_large(faces[0], faces[1:]) else []:
            problems += _several(clip, faces, used)
    taken.problems.extend(problems)
    yield first, taken
    for clip in fakes:
        yield clip, _settle(cutter, job.root, clip, cutter.cut(job.root, clip, lent[clip]))


def _settle(cutter: Cutter, root: Path, clip: Clip, taken: CutVideo) -> CutVideo:
    """Choose among the faces of a fake that was searched without its real video."""
    if not taken.others or taken.track is None:
        return taken
    faces = [taken.track, *taken.others]
    if place := changed_face(root, clip, (), faces):
        return cutter.cut(root, clip, faces[place])
    if place is None and as_large(faces[0], faces[1:]):
        taken.problems.extend(_several(clip, faces, "the largest is used"))
    return taken


def _several(clip: Clip, faces: Sequence[Track], used: str) -> list[Problem]:
    count = 1 + as_large(faces[0], faces[1:])
    return [
        Problem(version, "several_faces", f"{count} faces are about as large; {used}")
        for version in clip
    ]


def _store(place: Path, name: str, shots: list[Shot], options: Options) -> list[list[Any]]:
    """Write the crops of a video as one folder or one pack, empty without crops.

    Returns:
        Path in the output, frame, x, y and side of each crop.
    """
    draft = place.with_name(f".{place.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    rows: list[list[Any]] = []
    if options.pack:
        pack = place.with_name(place.name + PACK_SUFFIX)
        pictures = [shot.picture.transpose(2, 0, 1) for shot in shots]
        images = np.array(pictures, np.uint8).reshape(-1, 3, options.size, options.size)
        write_pack(draft / pack.name, [shot.frame for shot in shots], images)
        (draft / pack.name).replace(pack)
        draft.rmdir()
        return [[f"{name}{PACK_SUFFIX}#{i}", s.frame, *s.square] for i, s in enumerate(shots)]
    for shot in shots:
        suffix, content = encode_image(shot.picture, options)
        file = f"{shot.frame:04d}{suffix}"
        (draft / file).write_bytes(content)
        rows.append([f"{name}/{file}", shot.frame, *shot.square])
    shutil.rmtree(place, ignore_errors=True)
    draft.replace(place)
    return rows
