"""Sections of an audit that stored scores suffice for."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.audit.intervals import Interval, auc, intervals, sample, two_groups
from tokd_lightning.audit.stored import Scored, Stored, forges, trained_methods
from tokd_lightning.metrics.calibration import calibrated, fit_temperature, scaled
from tokd_lightning.metrics.classification import FloatArray, video_table

LEVELS = ("frame", "video")
GROUP = 10  # real videos that a group needs to be compared
_MAX_GROUPS = 8
Section = dict[str, Any]


def ranking(scored: Scored) -> Section:
    """Compute AUC, AP, EER and TPR at fixed FPR of frames and videos, with intervals.

    ``polarization`` is the 1-Wasserstein distance between P(fake) of real and of fake videos.
    """
    videos = scored.videos
    fake = videos["label"].to_numpy() == 1
    p_fake = videos["p_fake"].to_numpy(np.float64)
    counts: Section = {"frames": len(scored.frames), "videos": len(videos)}
    counts |= {"real_videos": int((~fake).sum()), "fake_videos": int(fake.sum())}
    distance = None
    if 0 < fake.sum() < len(fake):
        distance = round(wasserstein(p_fake[~fake], p_fake[fake]), 6)
    levels = {level: _plain(intervals(sample(scored.frames, level))) for level in LEVELS}
    return {
        "name": scored.name, "own": scored.own, "counts": counts, "polarization": distance, **levels
    }  # fmt: skip


def wasserstein(a: FloatArray, b: FloatArray) -> float:
    r"""Compute the 1-Wasserstein distance of two samples, :math:`\int |F_a(x) - F_b(x)| \, dx`."""
    both = np.sort(np.concatenate([a, b]))
    at = [np.searchsorted(np.sort(s), both[:-1], "right") / len(s) for s in (a, b)]
    return float(np.abs(at[0] - at[1]) @ np.diff(both))


def forgeries(stored: Stored) -> list[Section]:
    """Compute video AUC and TPR of each forgery against all reals of its data set.

    ``seen`` is whether the run was trained on the forgery, None where that is unknown; a run that
    forges its own fakes has seen none. ``without`` is the AUC of all other forgeries together.
    """
    rows = []
    methods, left_out = trained_methods(stored.config)
    given = (stored.config.get("data") or {}).get("init_args") or {}
    name, forged = given.get("name"), forges(stored.config)
    for scored in stored.scored:
        for dataset, frames in scored.frames.groupby("dataset", sort=False):
            fakes = frames.loc[frames["label"] == 1, "method"].unique()
            for method in map(str, fakes):
                is_method = (frames["label"] == 1) & (frames["method"] == method)
                found = intervals(
                    sample(frames[is_method | (frames["label"] == 0)], "video"),
                    ("auc", "tpr@0.01", "tpr@0.1"),
                )
                others = auc(sample(frames[~is_method], "video")) if len(fakes) > 1 else None
                seen = None
                if scored.own and (forged or method in left_out):
                    seen = False
                elif name is not None and dataset == name:
                    listed = methods is None or method in methods
                    seen = listed and not forged and method not in left_out
                videos = frames.loc[is_method, ["dataset", "method", "video"]]
                rows.append(
                    {"on": scored.name, "dataset": str(dataset), "method": method, "seen": seen}
                    | {"videos": len(videos.drop_duplicates())}
                    | _plain(found)
                    | {"without": _one(others)}
                )
    return rows


def real_floor(stored: Stored) -> list[Section]:
    """Compute the AUC between groups of real videos, which a detector should not tell apart.

    Groups are the data sets, qualities and folders within one table of scores, and the run's first
    data set against each other one. 50 % means that the score does not tell them apart; the AUC is
    that of the second group scoring higher.
    """
    rows = []
    for scored in stored.scored:
        reals = _reals(scored)
        for kind, groups in _groups(reals):
            for a, b in combinations(sorted(groups), 2):
                rows.append(_compared(scored.name, kind, (a, groups[a]), (b, groups[b])))
    first, *others = ((scored, _reals(scored)["p_fake"].to_numpy()) for scored in stored.scored)
    for scored, values in others:
        if min(len(first[1]), len(values)) >= GROUP:
            pair = (first[0].name, first[1]), (scored.name, values)
            rows.append(_compared("", "data set", *pair))
    return rows


def _reals(scored: Scored) -> pd.DataFrame:
    frames = scored.frames[scored.frames["label"] == 0]
    if frames.empty:
        return frames
    videos = video_table(frames)
    columns = [c for c in ("quality", "path") if c in frames]
    keys = ["dataset", "method", "video"]
    return videos.merge(frames.drop_duplicates(keys)[[*keys, *columns]], on=keys, how="left")


def _groups(reals: pd.DataFrame) -> Iterator[tuple[str, dict[str, FloatArray]]]:
    """Yield the ways to divide real videos, each as the scores of every group."""
    if reals.empty:
        return
    keys = {
        "data set": reals["dataset"],
        "quality": reals.get("quality"),
        "folder": _folders(reals["path"]) if "path" in reals else None,
    }
    seen: list[list[int]] = []
    for kind, key in keys.items():
        if key is None:
            continue
        codes = pd.factorize(key)[0].tolist()
        sizes = key.value_counts()
        large = [name for name, size in sizes.items() if size >= GROUP]
        if not 2 <= len(large) <= _MAX_GROUPS or codes in seen:
            continue
        seen.append(codes)
        yield kind, {str(name): reals.loc[key == name, "p_fake"].to_numpy() for name in large}


def _folders(paths: "pd.Series[str]") -> "pd.Series[str] | None":
    """Return the first folders in which paths differ and which at least two groups share."""
    parts = paths.map(lambda path: PurePosixPath(path).parts[:-1])
    for depth in range(int(parts.map(len).max())):
        names = parts.map(lambda part, end=depth + 1: "/".join(part[:end]))
        sizes = names.value_counts()
        if len(sizes) > 1:
            return names if (sizes >= GROUP).sum() > 1 else None
    return None


def _compared(on: str, kind: str, a: tuple[str, FloatArray], b: tuple[str, FloatArray]) -> Section:
    (first, low), (second, high) = a, b
    start: Section = {"on": on, "kind": kind, "a": first, "b": second}
    found = auc(two_groups(high, low))
    return start | {"videos_a": len(low), "videos_b": len(high), "auc": _one(found)}


def cross(scored: Sequence[Scored]) -> Section | None:
    """Compute the video AUC of the fakes of each data set against the reals of each.

    Returns:
        ``names``, ``auc`` (rows: fakes, columns: reals), ``within`` and ``across``, the means of
        the diagonal and of the rest; None for a single data set.
    """
    if len(scored) < 2:
        return None
    classes = []
    for one in scored:
        videos = one.videos
        is_fake = videos["label"] == 1
        classes.append([videos.loc[part, "p_fake"].to_numpy() for part in (is_fake, ~is_fake)])
    table = [[_one(auc(two_groups(f, r))) if len(f) and len(r) else None for _, r in classes]
             for f, _ in classes]  # fmt: skip
    diagonal: list[float] = []
    rest: list[float] = []
    for i, row in enumerate(table):
        for j, cell in enumerate(row):
            if cell is not None:
                (diagonal if i == j else rest).append(cell["value"])
    means = (round(float(np.mean(v)), 6) if v else None for v in (diagonal, rest))
    within, across = means
    names = [one.name for one in scored]
    return {"names": names, "auc": table, "within": within, "across": across}


def calibration(stored: Stored) -> Section:
    """Compute ECE, Brier score and NLL of frames, before and after a fitted temperature.

    The temperature has the lowest NLL on the frames of the run's own validation split; it is never
    fitted on the scores it is applied to.
    """
    temperature, why = None, ""
    known = stored.validation
    if known is None and forges(stored.config):
        why = "it validates on frames that it forges (--data.forge), whose scores are not stored"
    elif known is None:
        why = "no stored validation scores: tokd evaluate RUN --on its data --split val"
    elif known["label"].nunique() < 2:
        why = "its validation split has one class"
    else:
        label = known["label"].to_numpy(np.int64)
        temperature = fit_temperature(label, known["p_fake"].to_numpy(np.float64))
    rows = []
    for scored in stored.scored:
        label = scored.frames["label"].to_numpy(np.int64)
        p_fake = scored.frames["p_fake"].to_numpy(np.float64)
        row: Section = {"name": scored.name, "before": _calibrated(label, p_fake), "after": None}
        if temperature is not None:
            row["after"] = _calibrated(label, scaled(p_fake, temperature))
        rows.append(row)
    frames = 0 if known is None else len(known)
    return {"temperature": temperature, "validation_frames": frames, "why": why, "rows": rows}


def _calibrated(label: Any, p_fake: FloatArray) -> Section:
    found = calibrated(label, p_fake)
    return {key: found[key] for key in ("ece", "brier", "nll")}


def _plain(found: dict[str, Interval | None]) -> dict[str, Section | None]:
    return {name: _one(value) for name, value in found.items()}


def _one(found: Interval | None) -> Section | None:
    return None if found is None else found._asdict()
