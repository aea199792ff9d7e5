"""Check for equal content: one picture or video under two names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip


def find_duplicates(
    clips: Sequence[Clip], digests: Sequence[Sequence[bytes]], report: Report
) -> None:
    """Find content shared by two videos, or by two qualities of one video.

    A file with the finding ``wrong-crf`` is not compared with other qualities of its video: that it
    belongs to another quality is already reported.

    Args:
        clips: The videos, all encoded or all as frames.
        digests: Digests of each video's images in order, or of its only file.
        report: Already holds ``wrong-crf``; takes the findings on duplicate content.
    """
    owners: dict[bytes, dict[int, None]] = defaultdict(dict)
    for number, (clip, mine) in enumerate(zip(clips, digests, strict=True)):
        known = [digest for digest in mine if digest]
        for digest in known:
            owners[digest][number] = None
        copies = len(known) - len(set(known))
        if copies and 2 * copies >= len(known):
            report.add("repeated-frames", clip.video.place, f"{copies} of {len(known)}")
    mislabelled = report.items("wrong-crf")
    pairs: Counter[tuple[str, str, str]] = Counter()
    for numbers in owners.values():
        for a, b in pairwise(clips[number] for number in numbers):
            code = _kind(a, b)
            explained = {a.video.place, b.video.place} & mislabelled
            if code and not (code == "same-in-two-qualities" and explained):
                pairs[code, a.video.place, b.video.place] += 1
    for (code, first, second), count in pairs.items():
        detail = f"{count} images" if count > 1 else ""
        report.add(code, f"{first} = {second}", detail)


def _kind(a: Clip, b: Clip) -> str:
    """Return the kind of finding if two clips share content; empty if the copy is harmless."""
    if a.key == b.key:
        return "same-in-two-qualities" if a.video.quality != b.video.quality else ""
    if (a.video.method == "real") != (b.video.method == "real"):
        return "duplicate-across-labels"
    if a.video.split != b.video.split and a.video.split and b.video.split:
        return "duplicate-across-splits"
    return "duplicate-videos"
