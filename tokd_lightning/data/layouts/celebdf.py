"""Official trees of Celeb-DF v1, v2 and ++ with their test list, as rows of the manifest."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tokd_lightning.data.layouts.celebdf_tree import (
    CELEB,
    SYNTHESIS,
    YOUTUBE,
    describe,
    find_folders,
    find_videos,
    read_test_list,
)
from tokd_lightning.data.layouts.video_folder import VIDEOS, Video, gather
from tokd_lightning.data.layouts.whole import whole_celebdf
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.data.qualities import ORIGINAL
from tokd_lightning.errors import TokdError

_DRAWS = 1000
_FORMS = {
    CELEB: (re.compile(r"[^_]+_[^_]+"), "<target>_<number>"),
    YOUTUBE: (re.compile(r".+"), "<number>"),
    SYNTHESIS: (re.compile(r"[^_]+_[^_]+_[^_]+"), "<target>_<donor>_<number>"),
}
_ANY = re.compile(r"[^_]+_.+")  # talking faces: <target>_<number>_test_<reference>


def list_celebdf(
    root: Path,
    quality: str = ORIGINAL,
    splits: Path | None = None,
    folder: str | None = None,
    val_fraction: float = 0.1,
    val_seed: int = 0,
    dataset: str = "celebdf",
    strict: bool = True,
) -> list[Video]:
    """List the videos of a Celeb-DF tree, version 1, 2 or Celeb-DF++.

    The tree is ``<root>/{Celeb-real,YouTube-real,Celeb-synthesis}/<quality>/<folder>/<video>``,
    where a video is a folder of frames, a pack ``<video>.npy`` or, in ``videos``, a file. At the
    published quality, ``original``, the level ``<quality>`` may be omitted, and then ``<folder>``
    too. ``Youtube-real`` is accepted as well. In Celeb-DF++ fakes are two levels deeper, in
    ``Celeb-synthesis/<scenario>/<method>/…``; methods that are not on disk are skipped.

    The test list is the authors'. They publish no validation split. Of the other videos, a fraction
    of the Celeb-real identities (at least two) is held out, drawn with ``val_seed`` so that some of
    them are swapped with each other; fakes follow their target, see :func:`crossing`. The same
    fraction of YouTube-real is held out by video, because its people are unknown. The test list
    shares people with the other videos, so only ``train`` and ``val`` have disjoint identities.

    Within a split, the three parts are interleaved evenly, so any contiguous range contains real
    and fake videos.

    Args:
        root: The tree's root.
        quality: ``original``, or a re-encoded copy such as ``c40``.
        splits: The test list or its folder, if it is not in the root.
        folder: Kind of frames, or ``videos`` for the video files; by default the first of faces,
            frames, images that exists, then folders directly in the parts.
        val_fraction: Share of identities and of YouTube's videos held out, in [0, 1).
        val_seed: Seed of the validation draw.
        dataset: Data set name given to the videos.
        strict: Whether a missing video of the list is an error; otherwise it is listed with its
            expected path.

    Raises:
        TokdError: The tree or its test list is not as described.
    """
    if not 0 <= val_fraction < 1:
        raise TokdError(f"val_fraction must be at least 0 and below 1, not {val_fraction}")
    folders = find_folders(root, quality, folder)
    testing = read_test_list(root, splits)
    files = folder == VIDEOS
    found = {part: find_videos(place, files) for part, place in folders.items()}
    places = {part: place.relative_to(root).as_posix() for part, place in folders.items()}
    _refuse_other_version(root, {part for part, _ in testing}, set(found))
    missing = sorted((p, name) for p, name in testing if p in found and name not in found[p])
    if missing and strict:
        first = ", ".join(f"{places[part]}/{name}" for part, name in missing[:3])
        raise TokdError(
            f"the test list names {len(missing)} videos that are not in {root}: {first}"
            f"{', …' if len(missing) > 3 else ''}; get them or take their lines out of the list "
            "(tokd prepare celebdf --subset does)"
        )
    for part, name in missing:
        found[part][name] = f"{name}.mp4" if files else name
    videos = []
    for part, names in found.items():
        for name, place in names.items():
            _check_name(part, name, root / places[part] / place)
            split = "test" if (part, name) in testing else "train"
            videos.append(describe(part, name, quality, split, f"{places[part]}/{place}", dataset))
    held_out = hold_out([v for v in videos if v.split == "train"], val_fraction, val_seed)
    return _spread(
        v._replace(split="val") if v.split == "train" and v.target in held_out else v
        for v in videos
    )


def hold_out(training: list[Video], fraction: float, seed: int) -> set[str]:
    """Draw the targets whose videos form the validation split.

    A draw hashes seed and name, so it does not depend on the order of the videos, and adding or
    removing a name moves few others. It is repeated, up to 1000 times, until both sides have a fake
    whose target and donor are both on that side.

    Args:
        training: Real videos, where an unknown person's target is the video's name, and fakes.
        fraction: Share of known and of unknown targets, in [0, 1); at least two known and one
            unknown are drawn, and one of each kind is left.
        seed: Seed of the draw.
    """
    if not fraction:
        return set()
    reals = [v for v in training if v.method == "real"]
    people = {v.target for v in reals if v.target != v.name}
    youtube = {v.target for v in reals} - people
    swaps = {(v.target, v.source) for v in training if v.source}

    def drawn(names: set[str], least: int, draw: int) -> set[str]:
        number = min(max(least, round(fraction * len(names))), max(0, len(names) - 1))
        key = {n: hashlib.sha256(f"{seed}/{draw}/{n}".encode()).digest() for n in names}
        return set(sorted(names, key=key.__getitem__)[:number])

    for draw in range(_DRAWS):
        held_out = drawn(people, 2, draw)
        sides = {a in held_out for a, b in swaps if (a in held_out) == (b in held_out)}
        if sides == {True, False}:
            break
    return held_out | drawn(youtube, 1, 0)


def crossing(videos: Iterable[Video]) -> list[Video]:
    """Return the fakes with a training target and a validation donor, or the reverse.

    Args:
        videos: Output of :func:`list_celebdf`.
    """
    known = list(videos)
    held_out = {v.target for v in known if v.split == "val"}
    return [
        v
        for v in known
        if v.split != "test" and v.source and (v.source in held_out) != (v.split == "val")
    ]


def scan_celebdf(
    root: Path,
    quality: str = ORIGINAL,
    splits: Path | None = None,
    folder: str | None = None,
    val_fraction: float = 0.1,
    val_seed: int = 0,
    frames_per_video: int = 32,
    dataset: str = "celebdf",
) -> Scan:
    """Index the frames of a Celeb-DF tree, version 1, 2 or Celeb-DF++.

    Args:
        root: The tree's root.
        quality: ``original``, or a re-encoded copy such as ``c40``.
        splits: The test list or its folder, if it is not in the root.
        folder: Kind of frames, see :func:`list_celebdf`.
        val_fraction: Share held out for validation, see :func:`list_celebdf`.
        val_seed: Seed of the validation draw.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter video.
        dataset: Data set name in the rows.

    Returns:
        The manifest, the videos without frames and, as dropped, the fakes of :func:`crossing`.

    Raises:
        TokdError: The tree, its frames or its test list are not as described, or validation or
            training would have no fakes.
    """
    videos = list_celebdf(root, quality, splits, folder, val_fraction, val_seed, dataset)
    dropped = crossing(videos)
    across = {v.place for v in dropped}
    kept = [v for v in videos if v.place not in across]
    left = {v.split for v in kept if v.method != "real"}
    fakes = any(v.method != "real" and v.split != "test" for v in videos)
    if val_fraction and fakes and (lost := {"train", "val"} - left):
        raise TokdError(
            f"no fake is left for {' and '.join(sorted(lost))}: none shows one of its identities "
            "with a donor among them; choose another --data.val_fraction, or 0 for no validation"
        )
    scan = gather(root, _spread(kept), frames_per_video)
    if not len(scan.manifest):
        raise TokdError(
            f"{root} has {len(videos)} video folders for quality {quality}, but none holds an image"
        )
    listed = dict(scan.listed) | whole_celebdf(root, splits)
    return scan._replace(dropped=tuple(v.place for v in dropped), listed=listed)


def _check_name(part: str, name: str, place: Path) -> None:
    """Raise if a video is not named like those of its part."""
    form, example = _FORMS.get(part, (_ANY, "<target>_<donor>_<number>"))
    if not form.fullmatch(name):
        raise TokdError(f"{place} is not named {example}: rename or remove it")


def _refuse_other_version(root: Path, listed: set[str], there: set[str]) -> None:
    """Raise if the test list is of a version that sorts its fakes differently from the tree."""
    fakes = {part for part in listed if part.startswith(SYNTHESIS)}
    if fakes and (SYNTHESIS in fakes) != (SYNTHESIS in there):
        kinds = "by scenario and method", "in one folder"
        tree, its = kinds if SYNTHESIS in fakes else kinds[::-1]
        raise TokdError(
            f"{root} has its fakes {tree}, as Celeb-DF{'++' if tree is kinds[0] else ''} does, and "
            f"the test list names them {its}: use the list that came with the data"
        )


def _spread(videos: Iterable[Video]) -> list[Video]:
    """Sort by split; within each, interleave the videos of all parts evenly."""
    parts: dict[tuple[str, str], list[Video]] = defaultdict(list)
    for v in videos:
        parts[v.split, v.place.partition("/")[0]].append(v)
    placed = [
        (SPLITS.index(split), (i + 0.5) / len(members), v)
        for (split, _), members in parts.items()
        for i, v in enumerate(sorted(members, key=lambda v: (v.target, v.name)))
    ]
    return [v for *_, v in sorted(placed, key=lambda entry: entry[:2])]
