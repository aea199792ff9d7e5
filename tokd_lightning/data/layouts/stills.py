"""Videos of listed images without a video column: folders of frames, or single pictures."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tokd_lightning.data.layouts.listed import SPLIT_NAMES
from tokd_lightning.data.qualities import PATTERN

# Names of folders that hold single pictures: their class, split or kind.
_KIND = (
    r"(?:faces?|frames?|images?|imgs?|pictures?|pics?|photos?|crops?|cropped|stills?|png|jpe?g"
    "|data|dataset|set|all)"
)
_GENERIC = re.compile(
    "reals?|fakes?|originals?|pristine|genuine|authentic|manipulated|forged|synthetic|synthesized"
    f"|generated|altered|tampered|training|testing|eval|dev|{'|'.join(SPLIT_NAMES)}|{_KIND}"
)
_QUALITY = re.compile(PATTERN)
_NUMBER = re.compile(r"[0-9]+")
_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_WORD = re.compile(r"[a-z]+|[0-9]+")
_SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
_LARGEST = 18  # digits of a count
_FEW = 8  # pictures that may be all frames of a video


class Image(NamedTuple):
    """Listed image.

    Attributes:
        file: Its path, or that of the pack it is in.
        packed: Whether it is in a pack.
        dataset: Name of its data set.
        method: ``real``, or the name of the manipulation.
        quality: Its compression.
        split: ``train``, ``val`` or ``test``.
        video: Its video, if the list names it; otherwise empty.
        numbered: Whether the list gives its frame number.
    """

    file: str
    packed: bool
    dataset: str
    method: str
    quality: str
    split: str
    video: str
    numbered: bool


class Names(NamedTuple):
    """Video of every image, and the number of images treated as single pictures."""

    videos: list[str]
    stills: int


def name_videos(images: Sequence[Image]) -> Names:
    """Assign a video to every image whose list does not.

    A folder is a video if its images are numbered frames. They are single pictures, each a video
    of its own, if

    - the folder is named after a class, a split or a kind of files (``real``, ``training_fake``,
      ``images``),
    - it holds images of several methods,
    - most names differ in more than their digits (``alice.jpg``),
    - numbering continues from folder to folder, or
    - every class is in a single folder, which has more than 8 images.

    Folders or pictures with the same name are distinguished by as much of their paths as necessary;
    folders that differ only in split or quality stay one video.

    Args:
        images: In any order.
    """
    rows: dict[_Group, list[int]] = defaultdict(list)
    for row, i in enumerate(images):
        folder = i.file.rpartition("/")[0]
        rows[_Group(i.dataset, i.method, i.quality, i.video, i.packed, folder)].append(row)
    folders: dict[str, list[Image]] = defaultdict(list)
    for group, its in rows.items():
        if not group.video and not group.packed and group.folder:
            folders[group.folder] += [images[row] for row in its]
    single = _single(folders)
    keys: dict[_Key, list[int]] = {}
    videos = [""] * len(images)
    given = set()
    for group, its in rows.items():
        about = group[:3]
        if group.video:
            given.add(_Key(*about, group.video, ""))
            for row in its:
                videos[row] = group.video
        elif group.packed or not group.folder or group.folder in single:
            for row in its:
                file = images[row].file
                keys.setdefault(_Key(*about, file, _same(file, not group.packed)), []).append(row)
        else:
            keys[_Key(*about, group.folder, _same(group.folder, False))] = its
    names = _tell_apart(set(keys), given)
    for key, its in keys.items():
        for row in its:
            videos[row] = names[key.place]
    return Names(videos, sum(len(folders[folder]) for folder in single))


class _Group(NamedTuple):
    """Images in one folder with the same information about their video."""

    dataset: str
    method: str
    quality: str
    video: str
    packed: bool
    folder: str


def _single(folders: dict[str, list[Image]]) -> set[str]:
    """Return the folders of single pictures; images with a listed frame number never are."""
    bare = {name: its for name, its in folders.items() if not any(i.numbered for i in its)}
    single = {
        name for name, its in bare.items() if _is_mixed(its) or _is_container(name, its, folders)
    }
    frames = {name: its for name, its in bare.items() if name not in single}
    by_class: dict[tuple[str, bool, str, str], list[str]] = defaultdict(list)
    by_label: dict[tuple[str, bool, str], dict[str, None]] = defaultdict(dict)
    for name, its in frames.items():
        for dataset, method, quality, split in dict.fromkeys(i[2:6] for i in its):
            by_class[dataset, method == "real", quality, split].append(name)
            by_label[dataset, method == "real", quality][name] = None
    if all(len(names) == 1 for names in by_class.values()):
        single |= {name for name, its in frames.items() if len(its) > _FEW}
    for names in by_label.values():
        few = list(names)[:3]
        if _runs_on([_range(frames[n]) for n in few]) and _runs_on(
            [_range(frames[n]) for n in names]
        ):
            single |= set(names)
    return single


def _is_mixed(its: Sequence[Image]) -> bool:
    """Return whether images cannot be frames of one video: two methods, or unrelated names."""
    shapes = {image.file.rpartition("/")[2].rpartition(".")[0].translate(_DIGITS) for image in its}
    return len({image.method for image in its}) > 1 or len(shapes) > max(1, len(its) / 2)


def _is_container(folder: str, its: Sequence[Image], folders: Iterable[str]) -> bool:
    """Return whether a folder is named after its kind of content rather than after a video."""
    above, _, name = folder.casefold().rpartition("/")
    if not _is_generic(name, its):
        return False
    parent = above.rpartition("/")[2]
    if not re.fullmatch(_KIND, name) or not parent or _is_generic(parent, its):
        return True
    # clips/a/frames and clips/b/frames hold the frames of a and b.
    alike = [f for f in folders if f.casefold().endswith(f"/{name}")]
    return len(alike) < 2


def _is_generic(name: str, its: Sequence[Image]) -> bool:
    words = _WORD.findall(name)
    own = {its[0].method.casefold(), its[0].dataset.casefold()}
    return name in own or (bool(words) and all(map(_GENERIC.fullmatch, words)))


def _last(file: str) -> int:
    numbers = _NUMBER.findall(file.rpartition("/")[2].rpartition(".")[0])
    return int(numbers[-1]) if numbers and len(numbers[-1]) < _LARGEST else -1


def _range(its: Sequence[Image]) -> tuple[int, int]:
    numbers = [_last(image.file) for image in its]
    return min(numbers), max(numbers)


def _runs_on(ranges: Iterable[tuple[int, int]]) -> bool:
    """Return whether numbering continues over three or more folders; videos restart it."""
    some = sorted(pair for pair in ranges if pair[0] < pair[1])
    return len(some) > 2 and all(b[0] > a[1] for a, b in itertools.pairwise(some))


class _Key(NamedTuple):
    """Video that is named after its path.

    Attributes:
        dataset: Name of its data set.
        method: ``real``, or the name of the manipulation.
        quality: Its compression.
        place: Its folder, or the file of a single picture or a pack.
        same: The place without the parts that do not distinguish videos, see :func:`_same`.
    """

    dataset: str
    method: str
    quality: str
    place: str
    same: str


@lru_cache(maxsize=1 << 12)
def _same(place: str, still: bool) -> str:
    """Mask quality and, except for stills, split in a place: equal results are one video."""
    parts = [
        "*" if _QUALITY.fullmatch(part) or (not still and part.casefold() in SPLIT_NAMES) else part
        for part in place.split("/")
    ]
    return "/".join(parts)


def _tell_apart(keys: set[_Key], given: set[_Key]) -> dict[str, str]:
    """Name places by their last part, or by more parts if another video has that name."""
    places = {key.place: _parts(key.place) for key in keys if key.same}
    depth = dict.fromkeys(places, 1)
    names = {place: parts[-1] for place, parts in places.items()}
    while True:
        owners: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for key in given:
            owners[*key[:3], key.place].add("")
        for key in keys - given:
            owners[*key[:3], names[key.place]].add(key.same)
        shared = {(*k[:2], k[3]) for k, own in owners.items() if len(own) > 1}
        longer = {
            key.place
            for key in keys - given
            if (key.dataset, key.method, names[key.place]) in shared
            and depth[key.place] <= len(places[key.place])
        }
        if not longer:
            return names
        for place in longer:
            depth[place] += 1
            whole = depth[place] > len(places[place])
            names[place] = place if whole else "/".join(places[place][-depth[place] :])


def _parts(place: str) -> list[str]:
    folder, _, name = place.rpartition("/")
    stem = name.rpartition(".")[0] if name.lower().endswith(_SUFFIXES) else ""
    return [*(folder.split("/") if folder else []), stem or name]
