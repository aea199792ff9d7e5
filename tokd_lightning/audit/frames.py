"""Tables of an audit as DataFrames of texts, from which page and terminal are written."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from tokd_lightning.audit.checks import percent
from tokd_lightning.audit.intervals import RATES

NOTHING = "–"
Document = dict[str, Any]


class Part(NamedTuple):
    """A table: its key and title, its texts, whose index identifies a row, and notes."""

    key: str
    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def interval(found: Document | None, signed: bool = False) -> str:
    """Format an interval in percent: ``93.2 [91.0, 95.1]``."""
    if found is None:
        return NOTHING
    shown = [f"{100 * found[key]:{'+' if signed else ''}.1f}" for key in ("value", "low", "high")]
    return "{} [{}, {}]".format(*shown).replace("-", "−")


def parts(audit: Document) -> Iterator[Part]:
    """Yield the tables of an audit."""
    yield _ranking(audit)
    yield _forgeries(audit)
    if audit["real_floor"]:
        yield _real_floor(audit)
    if audit["cross"]:
        yield _cross(audit)
    yield _calibration(audit)
    if audit["shortcuts"].get("rows"):
        yield _shortcuts(audit)


def outcome(check: Document) -> str:
    """Return the outcome in a word or two: a failed caveat is not a fault."""
    return str(check["kind"] if check["outcome"] == "failed" else check["outcome"])


def _ranking(audit: Document) -> Part:
    rows = []
    for one in audit["ranking"]:
        counts = one["counts"]
        for level in ("video", "frame"):
            found = one[level]
            number = counts["videos"] if level == "video" else counts["frames"]
            row = {"Data": one["name"], "Of": f"{number} {level}s"}
            row |= {name.upper(): interval(found[name]) for name in ("auc", "ap", "eer")}
            row |= {f"TPR at {100 * r:g}\u00a0%": interval(found[f"tpr@{r:g}"]) for r in RATES}
            distance = one["polarization"]
            row["W1"] = NOTHING if distance is None or level == "frame" else f"{distance:.3f}"
            rows.append(row)
    share = [
        f"{one['name']} {percent(one['counts']['fake_videos'] / one['counts']['videos'])} %"
        for one in audit["ranking"]
    ]
    notes = (
        "In percent, with 95 % intervals over videos. TPR at a false positive rate: – where the "
        "rate is less than one real.",
        f"AP of guessing is the share of fakes: of videos {', '.join(share)}.",
        "W1: 1-Wasserstein distance between P(fake) of real and of fake videos, 0 to 1.",
    )
    return Part("ranking", "Ranking", pd.DataFrame(rows).set_index(["Data", "Of"]), notes)


def _forgeries(audit: Document) -> Part:
    seen = {True: "yes", False: "no", None: "unknown"}
    rows = [
        {
            "Data": row["on"],
            "Forgery": row["method"],
            "Videos": str(row["videos"]),
            "In training": seen[row["seen"]],
            "AUC": interval(row["auc"]),
            "TPR at 1 %": interval(row["tpr@0.01"]),
            "TPR at 10 %": interval(row["tpr@0.1"]),
            "AUC of the others": interval(row["without"]),
        }
        for row in audit["forgeries"]
    ]
    notes = ["Videos of each forgery against all reals of its data set."]
    known = [row for row in audit["forgeries"] if row["auc"]]
    if known:
        worst = min(known, key=lambda row: row["auc"]["value"])
        notes.append(f"The hardest: {worst['method']} on {worst['on']}.")
    unseen = [row["method"] for row in audit["forgeries"] if row["seen"] is False]
    if unseen:
        notes.append(
            f"Trained without {', '.join(dict.fromkeys(unseen))}: AUC on unseen forgeries."
        )
    else:
        notes.append(
            "The run has seen every forgery whose training is on record; training without one of "
            "them is another run."
        )
    keys = ["Data", "Forgery"]
    frame = pd.DataFrame(rows, columns=None if rows else keys).set_index(keys)
    return Part("forgeries", "Forgeries", frame, tuple(notes))


def _real_floor(audit: Document) -> Part:
    rows = [
        {
            "Of": row["on"] or "two data sets",
            "By": row["kind"],
            "Reals": f"{row['a']} ({row['videos_a']})",
            "Against": f"{row['b']} ({row['videos_b']})",
            "AUC": interval(row["auc"]),
        }
        for row in audit["real_floor"]
    ]
    note = "Reals against reals: 50 % means that P(fake) does not tell the two groups apart."
    return Part("floor", "Real against real", pd.DataFrame(rows).set_index(["Of", "By"]), (note,))


def _cross(audit: Document) -> Part:
    cross = audit["cross"]
    rows = [
        {"Fakes of": name} | dict(zip((f"reals of {n}" for n in cross["names"]),
                                      map(interval, row), strict=True))
        for name, row in zip(cross["names"], cross["auc"], strict=True)
    ]  # fmt: skip
    means = [
        NOTHING if cross[k] is None else f"{percent(cross[k])} %" for k in ("within", "across")
    ]
    note = (
        "AUC of the fakes of one data set against the reals of another. Mean within a data set "
        f"{means[0]}, across {means[1]}; across is lower where scores shift between data sets."
    )
    return Part("cross", "Cross-AUC", pd.DataFrame(rows).set_index("Fakes of"), (note,))


def _calibration(audit: Document) -> Part:
    told = audit["calibration"]
    rows = []
    for one in told["rows"]:
        row = {"Data": one["name"]}
        for when in ("before", "after"):
            found = one[when]
            for key, digits in (("ece", 1), ("brier", 1)):
                shown = NOTHING if found is None else f"{100 * found[key]:.{digits}f}"
                row[f"{key.upper() if key == 'ece' else 'Brier'} {when}"] = shown
            row[f"NLL {when}"] = NOTHING if found is None else f"{found['nll']:.3f}"
        rows.append(row)
    if told["temperature"] is None:
        note = f"No temperature: {told['why']}."
    else:
        note = (
            f"After division of the logits by T = {told['temperature']:.3g}, which has the lowest "
            f"NLL on {told['validation_frames']} frames of the run's own validation split."
        )
    about = "Of frames; ECE over 15 bins of P(fake) and Brier score in percent, NLL in nats."
    frame = pd.DataFrame(rows).set_index("Data")
    return Part("calibration", "Calibration", frame, (note, about))


def _shortcuts(audit: Document) -> Part:
    rows = [
        {
            "Measure": row["name"],
            "Videos": f"{row['real']} real, {row['fake']} fake",
            "AUC": interval(row["auc"]),
            "Commonest": row["said"],
        }
        for row in audit["shortcuts"]["rows"]
    ]
    note = "AUC of the measure alone: far from 50 % in either direction, it tells the class."
    return Part("shortcuts", "Shortcuts", pd.DataFrame(rows).set_index("Measure"), (note,))
