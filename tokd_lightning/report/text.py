"""Formatting of numbers and words, shared by all renderers."""

from collections.abc import Sequence

from tokd_lightning.report.conflict import Pair, tally
from tokd_lightning.report.model import CITED, Place, Report, TableReport
from tokd_lightning.report.reading import STALE
from tokd_lightning.tables.statistics import Summary

PAPER, OURS, DIFFERENCE = "paper", "ours", "difference"
NOTHING = "–"
# Meaning of the words and signs in tables.
LEGEND = {
    "mean ± sd": "over the seeds that are done (n, where more than one); sd with n - 1",
    "difference": "ours less the paper's, in points of percent",
    NOTHING: "the paper gives no number there",
    "not run": "no run of this cell exists",
    "interrupted": "begun and not finished; the same command resumes it",
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


def published(place: Place) -> str:
    """Format the paper's number as in the paper."""
    value, metric = place.entry.published, place.entry.metric
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


def ours(place: Place) -> str:
    """Format our number, or return the state that explains why there is none."""
    if place.ours is None:
        return place.state
    return mean_and_sd(place.ours, place.entry.metric)


def flags(place: Place) -> list[str]:
    """Return the caveats to show with the number."""
    found = [STALE] if place.state == STALE and place.ours else []
    return [*found, "other frames"] if place.other_frames else found


def lines(table: TableReport) -> list[tuple[str, str, list[str]]]:
    """Return a table as lines of (row, ``paper`` | ``ours`` | ``difference``, texts).

    Lines without any text are left out.
    """
    written = []
    for row in table.lines:
        places = [table.at(row, head) for head in table.heads]
        known = [place for place in places if place]
        if any(place.entry.published is not None for place in known):
            written.append((row, PAPER, [published(p) if p else "" for p in places]))
        if any(place.state != CITED for place in known):
            texts = [
                "" if p is None else ours(p) + "".join(f" ({flag})" for flag in flags(p))
                for p in places
            ]
            written.append((row, OURS, texts))
        if any(place.difference is not None for place in known):
            found = [p.difference if p else None for p in places]
            texts = ["" if value is None else signed(value) for value in found]
            written.append((row, DIFFERENCE, texts))
    return written


def progress(report: Report) -> str:
    """Return the number of cells that are done, and the states of the others, as text."""
    states = report.states()
    rest = ", ".join(f"{number} {state}" for state, number in states.items() if state != "done")
    done = f"{states.get('done', 0)} of {sum(states.values())} cells done"
    return f"{done}; {rest}" if rest else done


VERDICTS = ("Method", "Paper: both above RGB", "Ours: both above RGB", "Interval excludes 0")


def verdicts(pairs: Sequence[Pair]) -> list[tuple[str, str, str, str]]:
    """Count per method the rows in which both is above rgb, in the paper and in our runs."""
    counted = []
    for method in dict.fromkeys(pair.method for pair in pairs):
        mine = [pair for pair in pairs if pair.method == method]
        found = [pair.difference for pair in mine if pair.difference]
        paper = _tallied([pair.published for pair in mine])
        ours = _tallied([difference.mean for difference in found])
        sure = sum(difference.low * difference.high > 0 for difference in found)
        counted.append((method, paper, ours, f"{sure} of {len(found)}" if found else NOTHING))
    return counted


def _tallied(differences: Sequence[float | None]) -> str:
    found = tally(differences)
    tied = found.known - found.positive - found.negative
    ties = f" ({tied} tied)" if tied else ""
    return f"{found.positive} of {found.known}{ties}" if found.known else NOTHING


PAIRS = ("Row", "Method", "Paper", "Ours", "95 % interval", "Seeds above 0")


def pair_line(pair: Pair) -> tuple[str, str, str, str, str, str]:
    """Format both - rgb in percentage points, with its interval or the reason why it is missing."""
    paper = NOTHING if pair.published is None else signed(pair.published)
    found = pair.difference
    if found is None:
        return pair.row, pair.method, paper, NOTHING, pair.why, NOTHING
    interval = f"[{signed(100 * found.low)}, {signed(100 * found.high)}]"
    seeds = f"{found.positive} of {len(pair.seeds)}"
    return pair.row, pair.method, paper, signed(100 * found.mean), interval, seeds


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
