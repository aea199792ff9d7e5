"""Flat tree of splits, real and fake, as rows of the manifest."""

from collections.abc import Iterator
from pathlib import Path

from tokd_lightning.data.layouts.listed import SPLIT_NAMES, UNKNOWN
from tokd_lightning.data.layouts.video_folder import Video, gather, list_frames, videos_in
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.errors import TokdError

_NAMELESS = "fake"  # the method of fakes that are not in a folder of a method


def is_flat(root: Path) -> bool:
    """Return whether a folder has a split with real or fake videos in it."""
    return any(
        name.casefold() in ("real", "fake")
        for folders in _split_folders(root).values()
        for folder in folders
        for name in videos_in(folder)
    )


def list_flat(
    root: Path, quality: str = UNKNOWN, dataset: str = "flat", files: bool = False
) -> list[Video]:
    """List the videos of a tree ``{train,val,test}/{real,fake/<method>}/<video>``.

    ``val`` may be ``valid`` or ``validation``, and case is ignored. A fake directly in ``fake/``
    has the method ``fake``. Identities are unknown, so it is not checked that a person stays in one
    split. Within a split, videos are ordered by name, so that fakes are next to the real video of
    the same name.

    Args:
        root: The tree's root; a split may be missing.
        quality: Quality given to the videos.
        dataset: Data set name given to the videos.
        files: Whether videos are files; otherwise they are frames (folders and packs).

    Raises:
        TokdError: The tree is not as described, two videos of a method have the same name, or
            images are where folders of videos should be.
    """
    videos = _find(root, quality, dataset, files)
    if not videos:
        raise TokdError(
            f"{root} has only videos: extract their frames first, as `tokd prepare folder` does"
            if not files and _find(root, quality, dataset, files=True)
            else f"{root} has no {'video files' if files else 'frames'}: it needs train, val and "
            "test with real/<video> and fake/<method>/<video> in them"
        )
    known: dict[tuple[str, str], Video] = {}
    for v in videos:
        if (other := known.setdefault((v.method, v.name), v)) is not v:
            raise TokdError(
                f"{root} has {other.place} and {v.place}: a method's videos need different names, "
                "or one video would be in two splits; rename one or remove it"
            )
    return sorted(videos, key=lambda v: (SPLITS.index(v.split), v.name, v.method != "real"))


def scan_flat(
    root: Path, quality: str = UNKNOWN, frames_per_video: int = 32, dataset: str = "flat"
) -> Scan:
    """Index the frames of a flat tree.

    Args:
        root: The tree's root, see :func:`list_flat`.
        quality: Quality given to the rows.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.
        dataset: Data set name in the rows.

    Raises:
        TokdError: The tree is not as described, or has no frames.
    """
    scan = gather(root, list_flat(root, quality, dataset), frames_per_video)
    if not len(scan.manifest):
        raise TokdError(f"{root} has folders of {len(scan.empty)} videos, but none holds an image")
    return scan


def _find(root: Path, quality: str, dataset: str, files: bool) -> list[Video]:
    """Find the videos of all splits, in no particular order."""
    if not root.is_dir():
        raise TokdError(f"no data folder {root}: name the root of the tree with --data.root")
    videos: list[Video] = []
    for split, folders in _split_folders(root).items():
        if len(folders) > 1:
            raise TokdError(f"{root} has both {folders[0].name} and {folders[1].name}: keep one")
        for method, folder in _methods(folders[0], files):
            base = folder.relative_to(root).as_posix()
            videos += [
                Video(dataset, method, name, "", "", quality, split, f"{base}/{place}")
                for name, place in _videos(folder, method, files)
            ]
    return videos


def _split_folders(root: Path) -> dict[str, list[Path]]:
    """Find the folders of each split, in the order of the splits."""
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for name in videos_in(root):
        if name.casefold() in SPLIT_NAMES and (root / name).is_dir():
            found[SPLIT_NAMES[name.casefold()]].append(root / name)
    return {split: folders for split, folders in found.items() if folders}


def _methods(split: Path, files: bool) -> Iterator[tuple[str, Path]]:
    """Yield each method with its folder of videos."""
    kinds: dict[str, Path] = {}
    for name in videos_in(split):
        kind = name.casefold()
        if kind in ("real", "fake") and (split / name).is_dir():
            if kind in kinds:
                raise TokdError(f"{split} has both {kinds[kind].name} and {name}: keep one")
            kinds[kind] = split / name
    if not kinds:
        raise TokdError(f"{split} has neither real nor fake in it")
    if "real" in kinds:
        yield "real", kinds["real"]
    if "fake" in kinds:
        yield _NAMELESS, kinds["fake"]
        for name in videos_in(kinds["fake"]):
            folder = kinds["fake"] / name
            if folder.is_dir() and _is_method(folder, files):
                if name.casefold() == "real":
                    raise TokdError(f"{folder} calls a manipulation real: rename it")
                yield name, folder


def _is_method(folder: Path, files: bool) -> bool:
    """Return whether a folder in ``fake/`` contains videos and is not itself a video."""
    return bool(videos_in(folder, files)) and (files or not list_frames(folder))


def _videos(folder: Path, method: str, files: bool) -> Iterator[tuple[str, str]]:
    """Yield the videos of a method with their paths in its folder."""
    found = videos_in(folder, files)
    if not files and list_frames(folder):
        raise TokdError(
            f"{folder} holds images where folders of videos should be: give every video a folder "
            "of its own, or write a manifest.csv with a column video"
        )
    for name, place in found.items():
        inner = folder / place
        if method != _NAMELESS or not inner.is_dir() or not _is_method(inner, files):
            yield name, place
