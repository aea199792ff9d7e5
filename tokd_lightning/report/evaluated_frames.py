"""Evaluations beyond the paper's metrics as DataFrames: texts, and all numbers in full."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tokd_lightning.report.evaluations import LEVELS, Evaluated, EvaluatedOn
from tokd_lightning.tables.evaluation_tables import NOTHING, aucs, mean, percent, why_no_threshold

COLUMNS = (
    *("run", "evaluated_on", "split", "level", "what", "name", "strength", "parameter"),
    *("metric", "value"),
)
_FPR = 0.05


class Part(NamedTuple):
    """A table: its title, its texts, whose index identifies a row, and notes for the reader."""

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def evaluated_parts(its: EvaluatedOn) -> Iterator[Part]:
    """Yield the tables of the runs evaluated on a data set."""
    yield _overview(its)
    if its.perturbations:
        yield _robustness(its)
    yield _thresholds(its)
    yield _forgeries(its)


def _overview(its: EvaluatedOn) -> Part:
    rows = []
    for one in its.runs:
        frame, video = (one.record["calibration"][level] for level in LEVELS)
        row = {
            "Run": one.run,
            "AUC": percent(one.metric("frame/auc")),
            "ECE": percent(frame["ece"]),
            "Brier": percent(frame["brier"]),
            "NLL": f"{frame['nll']:.3f}",
            "TPR at FPR 5 %": percent(_tpr(one)),
            "Video AUC": percent(one.metric("video/auc")),
            "Video ECE": percent(video["ece"]),
        }
        if its.perturbations:
            row["Perturbed AUC"] = percent(_perturbed(one))
        rows.append(row)
    about = (
        "ECE: 15 bins of P(fake) of equal width, against the share of fakes in each. NLL in nats, "
        "all else in percent. Perturbed AUC: mean over the perturbations and strengths below."
    )
    return Part("Runs", pd.DataFrame(rows).set_index("Run"), (about, *its.notes))


def _tpr(one: Evaluated) -> float | None:
    points = one.record["thresholds"]["frame"]["here"]
    value = next((p["tpr"] for p in points if p["rate"] == _FPR), None)
    return None if value is None else float(value)


def _perturbed(one: Evaluated) -> float | None:
    if not one.robustness:
        return None
    found = one.robustness["perturbations"].values()
    return mean([value for its in found for value in aucs(its, "frame")])


def _robustness(its: EvaluatedOn) -> Part:
    rows = []
    for one in its.runs:
        measured = one.robustness or {"perturbations": {}}
        for found in measured["perturbations"].values():
            values = aucs(found, "frame")
            row = {"Clean": measured["clean"]["frame"]["auc"]}
            row |= {str(strength): value for strength, value in enumerate(values, 1)}
            row |= {"Mean": mean(values), "Video mean": mean(aucs(found, "video"))}
            shown = {head: percent(value) for head, value in row.items()}
            rows.append({"Run": one.run, "Perturbation": found["title"]} | shown)
    said = "; ".join(
        f"{found['title']}, {found['parameter']}: {', '.join(f'{v:g}' for v in found['values'])}"
        for found in its.perturbations.values()
    )
    frame = pd.DataFrame(rows).set_index(["Run", "Perturbation"])
    return Part("AUC by strength", frame, (f"Strengths 1 to 5. {said}.",))


def _thresholds(its: EvaluatedOn) -> Part:
    rows, notes = [], []
    for one in its.runs:
        for level in LEVELS:
            for where, points in one.record["thresholds"][level].items():
                if isinstance(points, str):
                    notes.append(f"{one.run}, validation: {points}")
                    continue
                rows += [
                    {"Run": one.run, "Level": level} | _point(point, where) for point in points
                ]
    about = (
        "FPR: share of reals called fake. A threshold chosen on these very scores keeps its FPR by "
        "construction; one chosen on validation shows what it does here."
    )
    frame = pd.DataFrame(rows).set_index(["Run", "Level"])
    title = "Thresholds at fixed false positive rates"
    return Part(title, frame, (about, *dict.fromkeys(notes)))


def _point(point: dict[str, Any], where: str) -> dict[str, str]:
    unknown = point["threshold"] is None
    return {
        "FPR": percent(point["rate"], 0),
        "Chosen on": "these scores" if where == "here" else where,
        "Reals": str(point["reals"]),
        "Threshold": why_no_threshold(point) if unknown else f"{point['threshold']:.4f}",
        "FPR here": NOTHING if unknown else percent(point["fpr"]),
        "TPR here": NOTHING if unknown else percent(point["tpr"]),
    }


def _forgeries(its: EvaluatedOn) -> Part:
    rows = []
    for one in its.runs:
        for found in one.record["forgeries"]:
            row = {"Run": one.run, "Forgery": found["method"]}
            for level, word in zip(LEVELS, ("", "Video "), strict=True):
                row |= {
                    f"{level.capitalize()}s": str(found[level]["n"]),
                    f"{word}AUC": percent(found[level]["auc"]),
                    f"{word}at 0.5": percent(found[level]["recall"]),
                    f"{word}at FPR 5 %": percent(found[level]["recall_at_fpr"]),
                }
            rows.append(row)
    about = (
        "Each forgery against all reals: AUC, and the share of it that is called fake at 0.5 and "
        "at the threshold above which 5 % of the reals are."
    )
    frame = pd.DataFrame(rows, columns=None if rows else ["Run", "Forgery"])
    return Part("Forgeries", frame.set_index(["Run", "Forgery"]), (about,))


def evaluations_frame(evaluated: Sequence[EvaluatedOn]) -> pd.DataFrame:
    """Return every number of the evaluations, one per row, shares as fractions."""
    rows = [
        {"run": one.run, "evaluated_on": its.name, "split": one.record["split"]} | row
        for its in evaluated
        for one in its.runs
        for row in _numbers(one)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _numbers(one: Evaluated) -> Iterator[dict[str, Any]]:
    for level in LEVELS:
        start = {"level": level}
        for metric in ("ece", "brier", "nll"):
            value = one.record["calibration"][level][metric]
            yield start | {"what": "calibration", "metric": metric, "value": value}
        for where, points in one.record["thresholds"][level].items():
            for point in points if isinstance(points, list) else []:
                known = start | {"what": f"threshold ({where})", "name": f"fpr {point['rate']:g}"}
                for metric in ("threshold", "fpr", "tpr", "reals"):
                    yield known | {"metric": metric, "value": point[metric]}
        for found in one.record["forgeries"]:
            for metric, value in found[level].items():
                known = start | {"what": "forgery", "name": found["method"]}
                yield known | {"metric": metric, "value": value}
        for name, found in (one.robustness or {}).get("perturbations", {}).items():
            for n, (parameter, point) in enumerate(zip(found["values"], found[level], strict=True)):
                known = start | {"what": "robustness", "name": name, "strength": n + 1}
                for metric, value in point.items():
                    yield known | {"parameter": parameter, "metric": metric, "value": value}
