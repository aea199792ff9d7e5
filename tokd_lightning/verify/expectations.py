"""Published numbers of videos, compared with those of a tree on disk.

FF++: 1000 real videos and as many fakes of each method, split 720/140/140 (Rössler et al., ICCV
2019). Celeb-DF: 408 real videos, 158 of celebrities and 250 others, and 795 fakes in version 1; 890
(590 and 300) and 5639 in version 2 (Li et al., CVPR 2020), of which its list names 178 and 340 for
testing. The number of test videos in version 1 is not checked, as none is published. DFDC: 119,154
training videos, 100,000 of them fake (Dolhansky et al., 2020). FFIW: 10,000 forged videos (Zhou et
al., CVPR 2021). WildDeepfake: 7,314 face sequences (Zi et al., ACM MM 2020). KoDF: 62,166
real clips and 175,776 forged ones (Kwon et al., ICCV 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from tokd_lightning.data.layouts.celebdf_tree import PARTS, SYNTHESIS
from tokd_lightning.data.layouts.ffpp import METHODS
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

Expected = Literal["ffpp", "celebdf-v1", "celebdf-v2", "dfdc", "ffiw", "wilddeepfake", "kodf"]
EXPECTED: tuple[Expected, ...] = get_args(Expected)
FRAMES = 32
_FFPP = {"train": 720, "val": 140, "test": 140}
_CELEBDF = {"celebdf-v1": (158, 250, 795), "celebdf-v2": (590, 300, 5639)}
# Split and method, empty for any -> number.
_TOTALS: dict[str, dict[tuple[str, str], int]] = {
    "dfdc": {("train", "real"): 19_154, ("train", "fake"): 100_000},
    "ffiw": {("", "FFIW"): 10_000},
    "wilddeepfake": {("", ""): 7_314},
    "kodf": {("", "real"): 62_166, ("", ""): 237_942},
}
_CELEBDF_TEST = {"celebdf-v2": {"real": 178, SYNTHESIS: 340}}


def hold_against(clips: Sequence[Clip], expected: Expected, report: Report) -> None:
    """Compare numbers of videos with the published ones, at each quality and in each form.

    Args:
        clips: All videos on disk.
        expected: The data set whose numbers are expected.
        report: Takes ``unexpected-count``.
    """
    forms = sorted({(clip.video.quality, clip.kind) for clip in clips})
    for quality, kind in forms:
        mine = [c for c in clips if (c.video.quality, c.kind) == (quality, kind)]
        if expected in _TOTALS:
            wanted = _totals(mine, expected)
        else:
            wanted = _ffpp(mine) if expected == "ffpp" else _celebdf(mine, expected)
        for what, there, published in wanted:
            if there != published:
                item = f"{what}, {quality} {kind}"
                report.add("unexpected-count", item, f"{there} videos, published {published}")
    if not forms:
        report.add("unexpected-count", expected, "no videos at all")


def _ffpp(clips: Sequence[Clip]) -> Iterator[tuple[str, int, int]]:
    found = Counter((c.video.split, c.video.method) for c in clips if c.video.dataset == "ffpp")
    methods = dict.fromkeys(("real", *METHODS, *sorted({method for _, method in found})))
    for method in methods:
        for split, published in _FFPP.items():
            yield f"{split} {method}", found[split, method], published


def _totals(clips: Sequence[Clip], expected: str) -> Iterator[tuple[str, int, int]]:
    for (split, method), published in _TOTALS[expected].items():
        there = sum(split in ("", c.video.split) and method in ("", c.video.method) for c in clips)
        yield " ".join(filter(None, (split, method))) or "all", there, published


def _celebdf(clips: Sequence[Clip], expected: str) -> Iterator[tuple[str, int, int]]:
    parts = Counter(clip.video.place.split("/")[0].lower() for clip in clips)
    for part, published in zip(PARTS, _CELEBDF[expected], strict=True):
        yield part, parts[part.lower()], published
    testing = Counter(clip.video.method for clip in clips if clip.video.split == "test")
    for method, published in _CELEBDF_TEST.get(expected, {}).items():
        yield f"test {method}", testing[method], published
