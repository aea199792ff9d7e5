"""Trees of FFIW and WildDeepfake, as rows of the manifest."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tokd_lightning.data.layouts.listed import SPLIT_NAMES, UNKNOWN
from tokd_lightning.data.layouts.video_folder import (
    FOLDERS,
    SUFFIXES,
    VIDEOS,
    Video,
    folders_in,
    gather,
    videos_in,
)
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.errors import TokdError

FFIW, WILD = "ffiw", "wilddeepfake"
_FFIW = {"source": "real", "target": "FFIW"}
_WILD = re.compile("(real|fake)[ _-]?(train|test)", re.IGNORECASE)


def collection_of(root: Path) -> str:
    """Return ``ffiw`` or ``wilddeepfake`` for such a tree, otherwise an empty string."""
    if not root.is_dir():
        return ""
    tops = folders_in(root)
    if all(_splits(root, part) for part in _FFIW):
        return FFIW
    return WILD if any(_WILD.fullmatch(top) for top in tops) else ""


def list_collection(root: Path, quality: str = UNKNOWN, files: bool = False) -> list[Video]:
    """List the videos of FFIW or the face sequences of WildDeepfake.

    FFIW (Zhou et al., CVPR 2021) is ``{source,target}/{train,val,test}[/videos]/<video>``, its
    ``source`` real and its ``target`` forged. WildDeepfake (Zi et al., ACM MM 2020) is
    ``{real,fake}_{train,test}/<number>/…/<sequence>/<frame>.png``: every folder that holds images
    is a sequence, and the number stands for the video that it was cut from, whose sequences stay
    in one split. People are otherwise unknown. Names have the split in front, because numbers
    begin again in each.

    Args:
        root: The tree's root.
        quality: Quality given to the videos.
        files: Whether videos are files; otherwise they are frames (folders and packs).

    Raises:
        TokdError: There are no such videos.
    """
    kind = collection_of(root)
    found = _list_ffiw(root, quality, files) if kind == FFIW else _list_wild(root, quality)
    videos = [] if kind == WILD and files else list(found)
    if not videos:
        what = "video files" if files else "frames: `tokd prepare folder` extracts those of FFIW"
        raise TokdError(f"{root} has no {what}")
    return sorted(videos, key=lambda v: (SPLITS.index(v.split), v.name, v.method != "real"))


def scan_collection(root: Path, quality: str = UNKNOWN, frames_per_video: int = 32) -> Scan:
    """Index the frames of such a tree, see :func:`list_collection`."""
    return gather(root, list_collection(root, quality), frames_per_video)


def _splits(root: Path, part: str) -> dict[str, str]:
    """Return the folders of splits in a part of FFIW -> the split."""
    names = folders_in(root, part)
    return {name: SPLIT_NAMES[name.casefold()] for name in names if name.casefold() in SPLIT_NAMES}


def _list_ffiw(root: Path, quality: str, files: bool) -> Iterator[Video]:
    for part, method in _FFIW.items():
        for name, split in _splits(root, part).items():
            kinds = (VIDEOS,) if files else FOLDERS
            inner = next((k for k in kinds if (root / part / name / k).is_dir()), "")
            place = "/".join(filter(None, (part, name, inner)))
            for video, file in videos_in(root / place, files).items():
                if video in (VIDEOS, *FOLDERS):
                    continue
                about = (f"{split}-{video}", "", "", quality, split, f"{place}/{file}")
                yield Video(FFIW, method, *about)


def _list_wild(root: Path, quality: str) -> Iterator[Video]:
    for top in folders_in(root):
        if (match := _WILD.fullmatch(top)) is None:
            continue
        label, split = (text.casefold() for text in match.groups())
        method = "real" if label == "real" else "WildDeepfake"
        for folder, _, names in os.walk(root / top):
            place = Path(folder).relative_to(root)
            if len(place.parts) < 2 or not any(Path(n).suffix.lower() in SUFFIXES for n in names):
                continue
            number, *inner = place.parts[1:]
            name = "-".join([split, number, *inner])
            target = f"{label}-{split}-{number}"
            yield Video(WILD, method, name, target, "", quality, split, place.as_posix())
