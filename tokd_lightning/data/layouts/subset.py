"""Trees with a part of the published videos, and split files trimmed to that part."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.layouts.celebdf_tree import TEST_LIST, part_of, read_test_list
from tokd_lightning.data.layouts.ffpp import read_splits
from tokd_lightning.data.layouts.listed import SUBSET
from tokd_lightning.data.layouts.video_folder import Video
from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.errors import TokdError


class Subset(NamedTuple):
    """Part of a data set that is on disk.

    Attributes:
        videos: Those to take, in the order given.
        files: Path -> content: the trimmed split files, and the counts of the complete ones.
        lines: Messages for the user.
    """

    videos: list[Video]
    files: dict[str, str]
    lines: list[str]


def trim_ffpp(root: Path, videos: Sequence[Video], splits: Path | None = None) -> Subset:
    """Keep the pairs of which every video exists, at every quality and of every method.

    Args:
        root: The tree.
        videos: Output of :func:`~tokd_lightning.data.layouts.ffpp.list_ffpp`, including missing
            videos.
        splits: Folder of the split files, if it is neither ``<root>/splits`` nor the root.

    Raises:
        TokdError: No pair is complete.
    """
    there = {v.place for v in videos if (root / v.place).exists()}
    pairs = read_splits(root, splits)
    lacking: dict[str, set[str]] = defaultdict(set)  # name of a pair's video -> missing files
    for v in videos:
        if v.dataset != "dfd" and v.place not in there:
            lacking[v.name].add(v.place)
    kept = {
        split: [(a, b) for a, b in its if not any(map(lacking.get, (a, b, f"{a}_{b}", f"{b}_{a}")))]
        for split, its in pairs.items()
    }
    names = {n for its in kept.values() for a, b in its for n in (a, b, f"{a}_{b}", f"{b}_{a}")}
    chosen = [v for v in videos if (v.dataset == "dfd" and v.place in there) or v.name in names]
    if not names and any(v.dataset != "dfd" for v in videos):
        example = next(iter(sorted(place for places in lacking.values() for place in places)), "")
        raise TokdError(
            f"no pair of the split files is whole in {root}: a pair needs both real videos and "
            f"both fakes of every method at every quality, and e.g. {example} is not there; name "
            "fewer with --methods and --quality, or download more"
        )
    files = {f"splits/{split}.json": json.dumps(kept[split]) + "\n" for split in SPLITS}
    whole = {split: len(its) for split, its in pairs.items()}
    files[SUBSET] = json.dumps({"pairs": whole}, indent=2) + "\n"
    lines = [f"{split}: {len(kept[split])} of {whole[split]} pairs are whole" for split in SPLITS]
    left = len(there) - len({v.place for v in chosen})
    if left:
        lines.append(f"{left} video files are left out, as their pairs are not whole")
    return Subset(chosen, files, lines)


def trim_celebdf(root: Path, videos: Sequence[Video], splits: Path | None = None) -> Subset:
    """Keep the videos that exist, and their lines of the test list.

    Args:
        root: The tree.
        videos: Output of :func:`~tokd_lightning.data.layouts.celebdf.list_celebdf`, including
            missing videos.
        splits: The test list or its folder, if it is not in the root.

    Raises:
        TokdError: No test video exists.
    """
    chosen = [v for v in videos if (root / v.place).exists()]
    lacking = {(part_of(v.place), v.name) for v in videos} - {
        (part_of(v.place), v.name) for v in chosen
    }
    tops = {part_of(v.place) for v in videos}
    testing = read_test_list(root, splits)
    kept = sorted(
        (part, name) for part, name in testing if part in tops and (part, name) not in lacking
    )
    if not kept:
        raise TokdError(f"no video of the test list is in {root}: download some of them")
    lines = [f"{int(not p.startswith('Celeb-syn'))} {p}/{name}.mp4\n" for p, name in kept]
    files = {TEST_LIST: "".join(lines), SUBSET: json.dumps({"test": len(testing)}, indent=2) + "\n"}
    return Subset(chosen, files, [f"test: {len(kept)} of {len(testing)} videos are there"])
