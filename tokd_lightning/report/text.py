"""Formatting of numbers and words, shared by all forms of the report."""

from collections.abc import Sequence

from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.model import FilledEntry, Report
from tokd_lightning.report.reader import STALE
from tokd_lightning.tables.statistics import Summary

NOTHING = "–"
# Meaning of the words and signs in tables.
LEGEND = {
    "mean ± sd": "over the seeds that are done (n, where more than one); sd with n - 1",
    "mean [low, high]": "over the seeds that are done, with the 95 % interval of the mean "
    "(Student's distribution)",
    "difference": "ours less the paper's, in points of percent",
    NOTHING: "the paper gives no number there",
    "not run": "no run of this cell exists",
    "interrupted": "started and not finished; the same command resumes it",
    "not tested": "trained, without its test",
    "not evaluated": "trained and tested, but not scored on the other data set",
    "not computed": "a size or time of a network that tokd can compute and has not",
    "stale": "made by other code or configuration than today's, or, where tokd table has compared "
    "them, of other data; its number is shown, without a difference: --rerun sets it aside",
    "unreadable": "its files are broken; the warnings name them",
    "cited": "a number of other work, not run here",
    "other frames": "tested on other frames than most of its row: not to be compared",
}


def number(value: float, metric: str) -> str:
    """Format a number with the digits of its metric."""
    return f"{value:.1f}" if metric == "latency" else f"{value:.2f}"


def published(filled: FilledEntry) -> str:
    """Format the paper's number as in the paper."""
    value, metric = filled.entry.published, filled.entry.metric
    if value is None:
        return NOTHING
    return number(value, metric) if metric.startswith("test/") or metric == "macs" else f"{value:g}"


def mean_and_sd(ours: Summary, metric: str) -> str:
    """Format as ``82.31 ± 0.12``, or only the value of a single seed."""
    mean = number(ours.mean, metric)
    return mean if ours.sd is None else f"{mean} ± {number(ours.sd, metric)}"


def signed(value: float, digits: int = 2) -> str:
    """Format a difference with its sign, or without a sign if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def ours(filled: FilledEntry) -> str:
    """Format our number, or return the state that explains why there is none."""
    if filled.ours is None:
        return filled.state
    if filled.entry.interval and (interval := filled.ours.interval):
        low, high = (number(value, filled.entry.metric) for value in interval)
        return f"{number(filled.ours.mean, filled.entry.metric)} [{low}, {high}]"
    return mean_and_sd(filled.ours, filled.entry.metric)


def flags(filled: FilledEntry) -> list[str]:
    """Return the caveats to show with the number."""
    found = [STALE] if filled.state == STALE and filled.ours else []
    return [*found, "other frames"] if filled.other_frames else found


def progress(report: Report) -> str:
    """Return the number of cells that are done, and the states of the others, as text."""
    states = report.states()
    rest = ", ".join(f"{number} {state}" for state, number in states.items() if state != "done")
    done = f"{states.get('done', 0)} of {sum(states.values())} cells done"
    return f"{done}; {rest}" if rest else done


def about_intervals(pairs: Sequence[Pair]) -> str:
    """Return an explanation of how the intervals were computed."""
    said = (
        "95 % intervals of frame accuracy: test videos are resampled (all frames of a video "
        "together, the same videos for both runs, 10,000 times, the number of videos per forgery "
        "kept); the seeds' part follows Student's distribution, because resampling a few seeds "
        "gives intervals that are too narrow. With two seeds they are therefore wide. Videos of "
        "one person count as independent."
    )
    if (number := sum(pair.difference is not None for pair in pairs)) > 5:
        said += f" Of {number} such intervals, {number * 0.05:.0f} exclude 0 by chance alone."
    if any(pair.difference and len(pair.seeds) == 1 for pair in pairs):
        said += (
            " Where there is one seed, only videos are resampled: the interval says nothing "
            "about other seeds."
        )
    return said
