"""Sections of an audit that need the data: leaks, duplicates, shortcuts, linear probe.

What was measured on the data is stored in the run's folder, ``audit/``, and the sections are
computed from it, so that an audit can be repeated without the data.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from tokd_lightning.audit.intervals import Sample, auc, auc_gain, sample
from tokd_lightning.audit.stored import Stored, read_frames
from tokd_lightning.data.manifest import shares_test
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import VIDEO, FloatArray

FOLDER = "audit"
MEASURED, FILES, PROBE = "measured.json", "files.csv", "probe.csv"
PER_VIDEO = 2  # frames of each video whose files are examined
SHORTCUT = 0.1  # AUC beyond 50 % at which a measure of the files alone tells the class
FEW = 5  # videos of each class that a measure needs
NEEDS_DATA = "needs the data: tokd audit RUN --data DIR"
NEEDS_PROBE = "needs the data and a backbone: tokd audit RUN --data DIR --probe NAME"
_TEXTS = ("path", "dataset", "method", "video", "target", "source", "quality", "split")
_FILE_TEXTS = (*_TEXTS, "encoder", "digest", "crf")
_SHOWN = 3
Section = dict[str, Any]


class Measured(NamedTuple):
    """What was measured on the data.

    Attributes:
        about: Contents of ``measured.json``.
        files: Facts of the examined frames, a row each.
        probe: P(fake) of the linear probe per frame of the test; None without one.
    """

    about: Section
    files: pd.DataFrame
    probe: pd.DataFrame | None


def test_key(frames: pd.DataFrame) -> str:
    """Return a hash of the frames and labels of a test; a measurement belongs to one."""
    rows = frames[["path", "label"]].sort_values(["path", "label"]).to_csv(index=False)
    return hashlib.sha256(rows.encode()).hexdigest()


def read_measured(stored: Stored) -> Measured | str:
    """Read what was measured on a run's data, or return why there is nothing.

    Raises:
        TokdError: The files cannot be read.
    """
    folder = stored.run.folder / FOLDER
    if not (folder / MEASURED).is_file():
        return NEEDS_DATA
    try:
        about = dict(json.loads((folder / MEASURED).read_text(encoding="utf-8")))
        own = stored.scored[0]
        if not own.own or "path" not in own.frames or about["test"] != test_key(own.frames):
            return f"the data were measured for another test; it {NEEDS_DATA}"
        files = pd.read_csv(
            folder / FILES, dtype=dict.fromkeys(_FILE_TEXTS, str), keep_default_na=False,
            na_values={"side": [""]},
        )  # fmt: skip
        files[["label", "width", "height", "bytes", "digest", *_TEXTS]]  # all are there
        probe = read_frames(folder / PROBE) if "probe" in about else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())  # pandas names missing columns on several lines
        raise TokdError(
            f"{folder} is not what tokd audit writes ({said}): remove it, or audit with --data"
        ) from error
    return Measured(about, files, probe)


def measured_sections(stored: Stored) -> dict[str, Section]:
    """Return ``leaks``, ``duplicates``, ``shortcuts`` and ``probe``.

    Each has ``passed`` (None if it was not checked) and ``said``, the reason.
    """
    known = read_measured(stored)
    if isinstance(known, str):
        nothing: Section = {"passed": None, "said": known}
        frames = _frames_per_video(stored)
        shortcuts = nothing | {"rows": [frames]}
        if _tells(frames):
            shortcuts |= {"passed": False, "said": _told([frames])}
        probe = nothing | {"said": NEEDS_PROBE}
        return {"leaks": nothing, "duplicates": nothing, "shortcuts": shortcuts, "probe": probe}
    return {
        "leaks": leaks(stored, known),
        "duplicates": duplicates(known.files),
        "shortcuts": shortcuts_of(stored, known),
        "probe": probe_of(stored, known),
    }


def leaks(stored: Stored, known: Measured) -> Section:
    """Find videos, people and near copies of frames shared by training and a scored data set.

    People are compared within a data set, as target or source of a video. Where the published
    test split shares people with training (Celeb-DF), they are reported and do not count.
    """
    train = known.files[known.files["split"] == "train"]
    people = _people(train)
    found: dict[str, list[str]] = {"people": [], "videos": [], "near copies": []}
    published: list[str] = []
    videos = set(train[[*VIDEO]].itertuples(index=False, name=None))
    for scored in stored.scored:
        rows = scored.frames.drop_duplicates(VIDEO)
        if {"target", "source"} <= set(rows):
            for key in sorted(people & _people(rows)):
                sharing = [shares_test(key[0], path) for path in rows.get("path", [])]
                (published if any(sharing) else found["people"]).append("/".join(key))
        shared = videos & set(rows[[*VIDEO]].itertuples(index=False, name=None))
        found["videos"] += ["/".join(key) for key in sorted(shared)]
    found["near copies"] = [" = ".join(pair) for pair in known.about["near_copies"]]
    told = [_counted(kind, names) for kind, names in found.items() if names]
    note = [_counted("people, by the published split", published)] if published else []
    said = "; ".join([*told, *note]) or "none"
    kept = {kind.replace(" ", "_"): names[:100] for kind, names in found.items()}
    return {"passed": not told, "said": said, **kept, "published": published[:100]}


def _people(rows: pd.DataFrame) -> set[tuple[str, str]]:
    return {
        (dataset, person)
        for role in ("target", "source")
        for dataset, person in zip(rows["dataset"], rows[role], strict=True)
        if person
    }


def duplicates(files: pd.DataFrame) -> Section:
    """Find frames with the same content and different labels."""
    known = files[files["digest"] != ""]
    both = known.groupby("digest")["label"].nunique()
    shared = known[known["digest"].isin(both.index[both > 1])]
    pairs = [" = ".join(paths) for _, paths in shared.groupby("digest")["path"]]
    said = _counted("contents in both classes", pairs) if pairs else (
        f"none of {len(known)} frames, {PER_VIDEO} of each video (tokd verify compares all)"
    )  # fmt: skip
    return {"passed": not pairs, "said": said, "pairs": pairs[:100]}


def shortcuts_of(stored: Stored, known: Measured) -> Section:
    """Compute the AUC of each measure of the files alone, without looking at the picture."""
    rows = [*_measures(known.files), _frames_per_video(stored)]
    if counts := known.about.get("no_face"):
        rows.append(_missed(counts))
    told = [row for row in rows if _tells(row)]
    known_rows = [row for row in rows if row["auc"] and row["decides"]]
    if not known_rows:
        said = f"fewer than {FEW} videos of a class"
    elif told:
        said = _told(told)
    else:
        worst = max(known_rows, key=lambda row: abs(row["auc"]["value"] - 0.5))
        said = f"at most {_told([worst])}"
    return {"passed": not told if known_rows else None, "said": said, "rows": rows}


def _measures(files: pd.DataFrame) -> Iterator[Section]:
    """Yield size, aspect, encoder and so on of the videos of all splits."""
    videos = files.groupby([*VIDEO, "quality"], sort=False)
    first = videos.first().reset_index()
    fake = first["label"].to_numpy() == 1
    keys = ["/".join(row) for row in first[VIDEO].itertuples(index=False)]
    area = np.sqrt(first["width"].to_numpy(float) * first["height"].to_numpy(float))
    aspect = first["width"].to_numpy(float) / first["height"].to_numpy(float)
    density = 8 * first["bytes"].to_numpy(float) / area**2
    yield _row("size (pixels)", fake, area, _by_class(first, area.round().astype(int)))
    yield _row("aspect", fake, aspect, _by_class(first, aspect.round(3)))
    for name, column in (("encoder", "encoder"), ("video encoder (CRF)", "crf")):
        if column in first and first[column].nunique() > 0 and (first[column] != "").any():
            score = category_scores(first[column], fake, keys)
            yield _row(name, fake, score, _by_class(first, first[column]))
    if "side" in first and first["side"].notna().all():
        side = first["side"].to_numpy(float)
        yield _row("size before the crop", fake, side, _by_class(first, side.round().astype(int)))
    if np.isfinite(density).all() and (density > 0).any():
        yield _row("bits per pixel", fake, density, "depends on the picture too", decides=False)


def category_scores(values: "pd.Series[str]", fake: Any, keys: list[str]) -> FloatArray:
    """Score categories by their share of fakes in the other half of the videos.

    Args:
        values: Category of each video, ``(V,)``.
        fake: Whether it is fake, ``(V,)``.
        keys: Name of each video; a hash of it chooses the half.

    Returns:
        The category's share of fakes less that of all, both in the other half, ``(V,)``.
    """
    half = np.array([crc32(key.encode()) % 2 for key in keys])
    scores = np.zeros(len(values))
    for mine in (0, 1):
        other = half != mine
        if not other.any():
            continue
        overall = float(fake[other].mean())
        table = pd.DataFrame({"value": values.to_numpy()[other], "fake": fake[other]})
        by = table.groupby("value")["fake"].agg(["sum", "size"])
        share = (by["sum"] + overall) / (by["size"] + 1) - overall
        scores[~other] = values[~other].map(share).fillna(0.0)
    return scores.round(9)


def _by_class(first: pd.DataFrame, values: Any) -> str:
    """Return the commonest value of each class: ``real 299, fake 256``."""
    table = pd.DataFrame({"value": np.asarray(values), "label": first["label"].to_numpy()})
    said = []
    for label, name in ((0, "real"), (1, "fake")):
        counts = table.loc[table["label"] == label, "value"].value_counts()
        if len(counts):
            all_of = "" if len(counts) == 1 else f" ({100 * counts.iloc[0] / counts.sum():.0f} %)"
            said.append(f"{name} {counts.index[0]}{all_of}")
    return ", ".join(said)


def _row(name: str, fake: Any, score: FloatArray, said: str, decides: bool = True) -> Section:
    counts = int((~fake).sum()), int(fake.sum())
    found = None
    if min(counts) >= FEW:
        strata = tuple(fake.tolist())
        found = auc(Sample(fake, score, np.arange(len(fake)), strata))
    row: Section = {"name": name, "real": counts[0], "fake": counts[1]}
    return row | {"auc": None if found is None else found._asdict(), "said": said,
                  "decides": decides}  # fmt: skip


def _frames_per_video(stored: Stored) -> Section:
    videos = stored.scored[0].videos
    fake, frames = videos["label"].to_numpy() == 1, videos["frames"].to_numpy(np.float64)
    return _row("frames of a video", fake, frames, _by_class(videos, videos["frames"]))


def _missed(counts: dict[str, tuple[int, int]]) -> Section:
    """Compute the AUC of “no face was found” alone."""
    fake, missed = [], []
    for name, (number, of) in counts.items():
        fake += [name != "real"] * of
        missed += [1.0] * number + [0.0] * (of - number)
    said = ", ".join(f"{name} {number} of {of}" for name, (number, of) in counts.items())
    return _row("no face found", np.array(fake, dtype=bool), np.array(missed), said)


def _tells(row: Section) -> bool:
    value = row["auc"]
    if value is None or not row["decides"]:
        return False
    return bool(value["low"] > 0.5 + SHORTCUT or value["high"] < 0.5 - SHORTCUT)


def _told(rows: list[Section]) -> str:
    return "; ".join(
        f"{row['name']}: AUC {100 * row['auc']['value']:.1f} "
        f"[{100 * row['auc']['low']:.1f}, {100 * row['auc']['high']:.1f}] % ({row['said']})"
        for row in rows
    )


def probe_of(stored: Stored, known: Measured) -> Section:
    """Compare the run with the linear probe on the same videos and resamples."""
    about = known.about.get("probe")
    if about is None or known.probe is None:
        why = known.about.get("no_probe") or NEEDS_PROBE
        return {"passed": None, "said": why}
    ours = stored.scored[0].frames
    keys = ["path", "label"]
    both = ours.merge(known.probe[[*keys, "p_fake"]], on=keys, suffixes=("", "_probe"))
    mine = sample(both, "video")
    theirs = sample(both.assign(p_fake=both["p_fake_probe"]), "video")
    gain, baseline, own = auc_gain(mine, theirs.score), auc(theirs), auc(mine)
    if gain is None or baseline is None or own is None:
        return {"passed": None, "said": "the test has one class", "about": about}
    said = (
        f"{100 * own.value:.1f} % against {100 * baseline.value:.1f} % of {about['backbone']}: "
        f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] points"
    )
    section: Section = {"passed": gain.low > 0, "said": said, "about": about}
    found = {"auc": own, "probe_auc": baseline, "gain": gain}
    return section | {key: value._asdict() for key, value in found.items()}


def _counted(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{more}"
