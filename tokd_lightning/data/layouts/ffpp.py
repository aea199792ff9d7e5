"""Official tree of FaceForensics++ and its split files, as rows of the manifest."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokd_lightning.data.layouts.listed import shown
from tokd_lightning.data.layouts.video_folder import (
    FOLDERS,
    NOT_VIDEOS,
    VIDEOS,
    Video,
    gather,
    videos_in,
)
from tokd_lightning.data.layouts.whole import whole_ffpp
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.data.qualities import names_of, same_quality
from tokd_lightning.errors import TokdError

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
ALL_METHODS = (*METHODS, "FaceShifter", "DeepFakeDetection")
REAL, FAKE = "original_sequences", "manipulated_sequences"
YOUTUBE, ACTORS = f"{REAL}/youtube", f"{REAL}/actors"
DFD = "DeepFakeDetection"
KINDS = (VIDEOS, *FOLDERS)
_LONGEST = 80  # characters of an identity; a fake's folder name contains two


class Cell(NamedTuple):
    """Folder of the videos of one part, at one quality, in one form.

    Attributes:
        part: ``original_sequences/youtube``, ``manipulated_sequences/<method>``, ….
        quality: Name of the quality folder.
        kind: ``videos`` for files; faces, frames or images for frames.
    """

    part: str
    quality: str
    kind: str

    @property
    def folder(self) -> str:
        """Path relative to the root."""
        return f"{self.part}/{self.quality}/{self.kind}"

    @property
    def method(self) -> str:
        """``real``, or the name of the manipulation."""
        top, _, name = self.part.partition("/")
        return "real" if top == REAL else name

    @property
    def has_actors(self) -> bool:
        """Whether it is of DeepFakeDetection: data set ``dfd``, without official splits."""
        return self.part in (ACTORS, f"{FAKE}/{DFD}")


def list_cells(folders: Callable[[str], Iterable[str]], quality: str | None = None) -> list[Cell]:
    """List the folders of videos in an FF++ tree, complete or not.

    Args:
        folders: Returns the names of the folders in a folder, given its path relative to the root.
        quality: Quality to take; None takes all.
    """
    return [
        Cell(f"{top}/{name}", level, kind)
        for top in (REAL, FAKE)
        for name in folders(top)
        for level in folders(f"{top}/{name}")
        if level not in NOT_VIDEOS and (quality is None or same_quality(level, quality))
        for there in [set(folders(f"{top}/{name}/{level}"))]
        for kind in KINDS
        if kind in there
    ]


def describe(
    cell: Cell,
    name: str,
    place: str,
    split: str = "",
    people: tuple[str, str] | None = None,
    dataset: str = "ffpp",
) -> Video:
    """Describe a video by its part of the tree and its name.

    ``000`` is real and ``000_003`` shows 000 with the face of 003. In DeepFakeDetection,
    ``01__scene`` is real and ``01_02__scene__code`` shows 01 with the face of 02.

    Args:
        cell: Its folder.
        name: Its name.
        place: Its path relative to the root.
        split: Its split; DeepFakeDetection has none and is listed as ``test``.
        people: Target and donor, if known; identities may have underscores.
        dataset: Data set name given to the official videos.
    """
    before, _, rest = name.partition("__")
    target, _, source = before.partition("_")
    if cell.has_actors:
        background = f"{target}__{rest.partition('__')[0]}" if source else ""
        about = ("dfd", cell.method, name, target, source, cell.quality, "test", place)
        return Video(*about, background)
    target, source = people or (target, source)
    background = target if source else ""
    return Video(dataset, cell.method, name, target, source, cell.quality, split, place, background)


def read_splits(root: Path, splits: Path | None = None) -> dict[str, list[tuple[str, str]]]:
    """Read the three lists of identity pairs.

    Args:
        root: The tree; its ``splits/`` is searched first, then the tree itself.
        splits: A folder to use instead.

    Returns:
        Split -> pairs. A pair (a, b) owns the real videos a and b and the fakes a_b and b_a.

    Raises:
        TokdError: A file is missing or is not a JSON list of pairs of identities, or an identity is
            in two splits.
    """
    places = [splits] if splits is not None else [root / "splits", root]
    place = next((p for p in places if (p / "train.json").is_file()), places[0])
    pairs = {split: read_pairs(place / f"{split}.json") for split in SPLITS}
    owner: dict[str, str] = {}
    for split in SPLITS:
        for identity in (i for pair in pairs[split] for i in pair):
            if owner.setdefault(identity, split) != split:
                raise TokdError(
                    f"identity {identity} is in both {owner[identity]}.json and {split}.json of "
                    f"{place}: a split must not share identities with another"
                )
    return pairs


def read_pairs(file: Path) -> list[tuple[str, str]]:
    """Read one split file.

    Raises:
        TokdError: It is missing or is not a JSON list of pairs of identities.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise TokdError(
            f"no split file {file}: put the official train.json, val.json and test.json there, or "
            "name their folder with --splits (--data.splits in training)"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise TokdError(f"{file} is not a readable JSON file: {error}") from error
    if not isinstance(content, list):
        raise TokdError(f'{file} is not a list of identity pairs like [["071", "054"], …]')
    for pair in content:
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_identity, pair))):
            raise TokdError(
                f'{file} holds {shown(pair)} where a pair like ["071", "054"] should be'
            )
        if pair[0] == pair[1]:
            raise TokdError(f"{file} pairs {pair[0]} with itself: a fake needs another donor")
    return [(a, b) for a, b in content]


def _is_identity(name: Any) -> bool:
    """Return whether a name can be used as a file name."""
    usable = isinstance(name, str) and 0 < len(name) <= _LONGEST and name.isprintable()
    return usable and not name.startswith(".") and not set(name) & set("/\\")


def list_ffpp(
    root: Path,
    quality: str = "c40",
    splits: Path | None = None,
    folder: str | None = None,
    methods: Sequence[str] = METHODS,
    dataset: str = "ffpp",
    strict: bool = True,
) -> list[Video]:
    """List the videos of an official FaceForensics++ tree.

    The tree is ``<root>/{original_sequences/{youtube,actors},manipulated_sequences/<method>}/
    <quality>/<folder>/<video>``, where a video is a folder of frames, a pack ``<video>.npy`` or, in
    ``videos``, a file. Within a split, videos are ordered by target identity, so any contiguous
    range contains real and fake ones. DeepFakeDetection and its actors have no official split and
    no identity in common with the rest: they are listed as data set ``dfd``, all ``test``.

    Args:
        root: The tree's root.
        quality: ``raw`` (also found as ``c0``), ``c23`` or ``c40``.
        splits: Folder of the split files, if it is neither ``<root>/splits`` nor the root.
        folder: Kind of frames, or ``videos`` for the video files; by default the first of faces,
            frames, images that exists.
        methods: Manipulations to take.
        dataset: Data set name given to the videos.
        strict: Whether a missing video of the splits is an error; otherwise it is listed with its
            expected path.

    Raises:
        TokdError: The tree or its split files are not as described.
    """
    if unknown := [m for m in methods if m not in ALL_METHODS]:
        raise TokdError(f"no method {unknown[0]!r} in FF++; choose from {', '.join(ALL_METHODS)}")
    if not root.is_dir():
        raise TokdError(f"no data folder {root}: name the root of the FF++ tree with --data.root")
    tree = _Tree(root, quality, folder, methods)
    videos: list[Video] = []
    if official := [m for m in methods if m != DFD]:
        pairs = read_splits(root, splits)
        videos += _official_videos(tree, official, pairs, dataset)
        if strict:
            _insist(root, videos)
    if DFD in methods:
        videos += _actor_videos(tree)
    return videos


def scan_ffpp(
    root: Path,
    quality: str = "c40",
    splits: Path | None = None,
    folder: str | None = None,
    methods: Sequence[str] = METHODS,
    frames_per_video: int = 32,
    dataset: str = "ffpp",
) -> Scan:
    """Index the frames of an official FaceForensics++ tree.

    Args:
        root: The tree's root.
        quality: ``raw`` (also found as ``c0``), ``c23`` or ``c40``.
        splits: Folder of the split files, if it is neither ``<root>/splits`` nor the root.
        folder: Kind of frames; by default the first of faces, frames, images that exists.
        methods: Manipulations to take.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter video.
        dataset: Data set name in the rows.

    Returns:
        The manifest and the videos without frames, in the order of :func:`list_ffpp`.

    Raises:
        TokdError: The tree, its frames or its split files are not as described.
    """
    videos = list_ffpp(root, quality, splits, folder, methods, dataset)
    scan = gather(root, videos, frames_per_video)
    if not len(scan.manifest):
        raise TokdError(
            f"{root} has {len(videos)} video folders for quality {quality}, but none holds an image"
        )
    if official := [method for method in methods if method != DFD]:
        whole = whole_ffpp(root, splits, len(official))
        if "test" in whole:
            whole["test"] += sum(v.dataset == "dfd" for v in videos)
        scan = scan._replace(listed=dict(scan.listed) | whole)
    return scan


class _Tree:
    """Folders of one quality, with the same kind of frames for every method."""

    def __init__(
        self, root: Path, quality: str, folder: str | None, methods: Sequence[str]
    ) -> None:
        self.root, self.quality = root, quality
        parts = {m: root / FAKE / m for m in methods}
        reals = {DFD: "actors"} if set(methods) == {DFD} else {"": "youtube"}
        if DFD in methods:
            reals[DFD] = "actors"
        parts |= {name: root / REAL / name for name in reals.values()}
        if not any(p.is_dir() for p in parts.values()):
            raise TokdError(
                f"{root} is not an FF++ tree: it has no original_sequences/youtube and no "
                "manipulated_sequences/<method>"
            )
        self.folders = {name: self._quality(part, quality) for name, part in parts.items()}
        kinds = [folder] if folder is not None else FOLDERS
        found = [k for k in kinds if any((p / k).is_dir() for p in self.folders.values())]
        for name, part in self.folders.items():
            if found and (part / found[0]).is_dir():
                self.folders[name] = part / found[0]
            elif (part / VIDEOS).is_dir() and not found:
                raise TokdError(
                    f"{part} has only videos: extract their frames to {part / kinds[0]}/<video>/ "
                    "first, as `tokd prepare ffpp` does"
                )
            elif folder == VIDEOS:
                raise TokdError(f"no folder videos in {part}: the files themselves belong there")
            else:
                where = " or ".join(found[:1] or kinds)
                raise TokdError(
                    f"no folder {where} in {part}: extract its frames, or choose another with "
                    "--data.folder"
                )

    @staticmethod
    def _quality(part: Path, quality: str) -> Path:
        if not part.is_dir():
            raise TokdError(
                f"no folder {part}: get it, or leave it out with --data.methods"
                if part.parent.name == FAKE
                else f"no folder {part}: the real videos belong there"
            )
        for name in names_of(quality):
            if (part / name).is_dir():
                return part / name
        there = sorted(p.name for p in part.iterdir() if p.is_dir() and p.name not in NOT_VIDEOS)
        raise TokdError(
            f"no quality {quality!r} in {part}: "
            + (f"choose from {', '.join(there)} (--data.quality)" if there else "it is empty")
        )

    def videos(self, name: str) -> dict[str, str]:
        """Return a method's videos, name -> path relative to the root."""
        part = self.folders[name]
        base = part.relative_to(self.root).as_posix()
        found = videos_in(part, files=part.name == VIDEOS)
        return {video: f"{base}/{place}" for video, place in found.items()}

    def cell(self, method: str) -> Cell:
        """Return the folder of a method's videos, with the quality's name as it was asked for."""
        top, part, _, kind = self.folders[method].relative_to(self.root).parts
        return Cell(f"{top}/{part}", self.quality, kind)

    def place(self, method: str, name: str) -> str:
        """Return the expected path of a missing video."""
        base = self.folders[method].relative_to(self.root).as_posix()
        return f"{base}/{name}.mp4" if base.endswith(f"/{VIDEOS}") else f"{base}/{name}"


def _official_videos(
    tree: _Tree,
    methods: Sequence[str],
    pairs: dict[str, list[tuple[str, str]]],
    dataset: str,
) -> Iterator[Video]:
    """List the videos of the split files' pairs."""
    there = {name: tree.videos(name) for name in ("youtube", *methods)}
    for split in SPLITS:
        donors: dict[str, dict[str, None]] = {}
        for a, b in pairs[split]:
            donors.setdefault(a, {})[b] = None
            donors.setdefault(b, {})[a] = None
        for target in sorted(donors):
            wanted = [("youtube", target, "")]
            wanted += [(m, f"{target}_{s}", s) for m in methods for s in donors[target]]
            for part, name, source in wanted:
                place = there[part].get(name) or tree.place(part, name)
                yield describe(tree.cell(part), name, place, split, (target, source), dataset)


def _insist(root: Path, videos: Sequence[Video]) -> None:
    if missing := [v.place for v in videos if not (root / v.place).exists()]:
        raise TokdError(
            f"the splits name {len(missing)} videos that are not in {root}: "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}; extract them or take "
            "their pairs out of the split files (tokd prepare ffpp --subset does)"
        )


def _actor_videos(tree: _Tree) -> Iterator[Video]:
    for part in ("actors", DFD):
        for name, place in sorted(tree.videos(part).items()):
            yield describe(tree.cell(part), name, place)
