"""Checks of names and splits only: leaks, missing videos, and frames that do not pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tokd_lightning.data.manifest import shares_test
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip, by_video

_WANTED = 32


def find_leaks(clips: Sequence[Clip], report: Report) -> None:
    """Find videos and people that are in two splits, and fakes whose donor is in another split.

    A person's split is that of the videos with this person as target. The test split of a data
    set whose published test split shares people is left out
    (:func:`~tokd_lightning.data.manifest.shares_test`).

    Args:
        clips: All videos on disk; those without a split are ignored.
        report: Takes ``video-in-two-splits``, ``identity-in-two-splits`` and ``leaked-donor``.
    """
    known = [clip for clip in clips if clip.video.split]
    twice = set()
    for key, same in by_video(known).items():
        splits = {clip.video.split for clip in same}
        if len(splits) > 1:
            twice.add(key)
            report.add("video-in-two-splits", key, " and ".join(sorted(splits)))
    videos = [
        c.video
        for c in known
        if c.key not in twice
        and not (c.video.split == "test" and shares_test(c.video.dataset, f"{c.video.place}/"))
    ]
    homes: dict[tuple[str, str], set[str]] = defaultdict(set)
    donors: dict[tuple[str, str], set[str]] = defaultdict(set)
    for v in videos:
        homes[v.dataset, v.target].add(v.split)
        donors[v.dataset, v.source].add(v.split)
    for (dataset, identity), splits in homes.items():
        if identity and len(splits) > 1:
            report.add("identity-in-two-splits", f"{dataset}/{identity}", ", ".join(sorted(splits)))
    for v in videos:
        person = (v.dataset, v.source)
        across = (homes.get(person) or donors[person]) - {v.split}
        if v.source and across:
            detail = f"{v.split}, donor {v.source} is in {', '.join(sorted(across))}"
            report.add("leaked-donor", f"{v.dataset}/{v.method}/{v.name}", detail)


def find_missing_reals(clips: Sequence[Clip], report: Report) -> None:
    """Find fakes whose real video is missing at that quality and in that form.

    Nothing is reported if the data set has no real videos at all in that form, or if the real video
    is already reported as ``missing-video``.
    """
    reals: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for clip in clips:
        if clip.video.method == "real":
            reals[clip.video.dataset, clip.video.quality, clip.kind].add(clip.video.name)
    absent = {place.rpartition("/")[2].partition(".")[0] for place in report.items("missing-video")}
    for clip in clips:
        there = reals.get((clip.video.dataset, clip.video.quality, clip.kind))
        wanted = clip.video.background
        if there and wanted and wanted not in there and wanted not in absent:
            report.add("missing-real", clip.video.place, f"no real video {wanted}")


def find_short(
    clips: Sequence[Clip], lengths: Sequence[int], wanted: int | None, report: Report
) -> None:
    """Find videos without frames or with too few.

    Args:
        clips: The videos.
        lengths: Number of frames of each; -1 if unknown because the video is broken.
        wanted: Number of frames that each should have; by default the most common number of its
            kind, at most 32.
        report: Takes ``empty-video`` and ``short-video``.
    """
    usual: dict[str, int] = {}
    for kind in {clip.kind for clip in clips}:
        mine = [n for clip, n in zip(clips, lengths, strict=True) if clip.kind == kind and n > 0]
        usual[kind] = min(_WANTED, max(set(mine), key=lambda n: (mine.count(n), n), default=0))
    for clip, length in zip(clips, lengths, strict=True):
        least = usual[clip.kind] if wanted is None else wanted
        if length == 0:
            report.add("empty-video", clip.video.place)
        elif 0 < length < least:
            report.add("short-video", clip.video.place, f"{length} frames, not {least}")


def find_one_class(clips: Sequence[Clip], lengths: Sequence[int], report: Report) -> None:
    """Find training and validation splits of one class, which training refuses.

    A quality that has one class only is not reported: it may be a part of another data set.

    Args:
        clips: All videos on disk.
        lengths: Number of frames of each.
        report: Takes ``one-class``.
    """
    for quality, splits in _classes(clips, lengths).items():
        if len(set().union(*splits.values())) > 1:
            for split in ("train", "val"):
                labels = splits.get(split, set())
                if len(labels) == 1:
                    report.add("one-class", f"{split} of {quality}", f"all {min(labels)}")


def find_not_for_training(clips: Sequence[Clip], lengths: Sequence[int], report: Report) -> None:
    """Note what training refuses, but may be evaluated, if nothing else is wrong.

    Celeb-DF's validation videos are held out by training itself.

    Args:
        clips: All videos on disk.
        lengths: Number of frames of each.
        report: Takes ``not-for-training``.
    """
    if any(finding.severity == "error" for finding in report.findings()):
        return
    celebdf = {clip.video.quality for clip in clips if clip.video.dataset == "celebdf"}
    for quality, splits in _classes(clips, lengths).items():
        whole = set().union(*splits.values())
        needed = ("train",) if quality in celebdf else ("train", "val")
        lacking = [split for split in needed if split not in splits]
        if len(whole) == 1:
            report.add("not-for-training", quality, f"all {min(whole)}")
        elif lacking and any(splits):
            report.add("not-for-training", quality, f"no {' and no '.join(lacking)}")


def _classes(clips: Sequence[Clip], lengths: Sequence[int]) -> dict[str, dict[str, set[str]]]:
    """Return the classes of the videos with frames, by quality and split."""
    classes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for clip, length in zip(clips, lengths, strict=True):
        if length:
            label = "real" if clip.video.method == "real" else "fake"
            classes[clip.video.quality][clip.video.split].add(label)
    return classes


def find_repeated_numbers(clips: Iterable[Clip], report: Report) -> None:
    """Find videos in which two images have the same frame number."""
    for clip in clips:
        first: dict[int, str] = {}
        for number, file in zip(clip.numbers, clip.files, strict=False):
            if first.setdefault(number, file) != file:
                report.add("same-frame", file, f"also {first[number].rpartition('/')[2]}")


def find_unpaired(
    clips: Sequence[Clip], frames: Sequence[Sequence[int] | int], report: Report
) -> None:
    """Find videos whose qualities have different frames.

    Args:
        clips: The videos.
        frames: Frame numbers of each, or only their count; -1 if unknown.
        report: Takes ``unpaired-frames``.
    """
    groups: dict[tuple[str, str], dict[str, Sequence[int] | int]] = defaultdict(dict)
    for clip, mine in zip(clips, frames, strict=True):
        if mine and mine != -1:
            groups[clip.key, clip.kind][clip.video.quality] = (
                mine if isinstance(mine, int) else tuple(sorted(set(mine)))
            )
    for (key, kind), by_quality in groups.items():
        if len(set(by_quality.values())) > 1:
            told = (
                f"{quality}: {mine if isinstance(mine, int) else len(mine)}"
                for quality, mine in sorted(by_quality.items())
            )
            report.add("unpaired-frames", f"{key} {kind}", "frames of " + ", ".join(told))
