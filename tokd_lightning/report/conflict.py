"""Comparison of both with rgb: does a method lose when both branches teach it (Sec. 5.3)?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tokd_lightning.errors import TokdError
from tokd_lightning.report.reader import DONE, STALE, Reader, Result, state_among
from tokd_lightning.runs.provenance import comparable_data
from tokd_lightning.tables.entries import ACC, PaperTable
from tokd_lightning.tables.grid import BRANCHES, METHODS
from tokd_lightning.tables.statistics import Difference, paired_difference

_VIDEO = ["dataset", "method", "video"]
_COLUMNS = [*_VIDEO, "label", "p_fake"]


class Pair(NamedTuple):
    """One method of one row of Table 3, with both branches and with rgb only.

    Attributes:
        row: Row of the table.
        method: The method's title.
        published: The paper's both - rgb, in percentage points.
        difference: Our both - rgb, as fractions; None if it cannot be computed.
        seeds: Seeds for which there are results of both.
        why: Reason why there is no difference.
    """

    row: str
    method: str
    published: float | None
    difference: Difference | None
    seeds: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Tally:
    """Count of the signs of both - rgb.

    Args:
        positive: Number of rows with a positive difference.
        negative: Number of rows with a negative difference.
        known: Number of rows with a difference.
    """

    positive: int
    negative: int
    known: int


def tally(differences: Sequence[float | None]) -> Tally:
    """Count the signs; a tie is neither positive nor negative."""
    known = [value for value in differences if value is not None]
    up, down = (sum(sign * value > 1e-9 for value in known) for sign in (1, -1))
    return Tally(up, down, len(known))


def compare_branches(table: PaperTable, reader: Reader) -> list[Pair]:
    """Compare both with rgb for every row and method of Table 3.

    Args:
        table: Table 3.
        reader: Reader of the runs.
    """
    entries = {
        (e.row, e.cell.method, e.cell.branches): e
        for e in table.entries
        if e.cell and e.metric == ACC
    }
    pairs = []
    for (row, method, branches), both in entries.items():
        rgb = entries.get((row, method, "rgb"))
        if branches != "both" or rgb is None or both.cell is None or rgb.cell is None:
            continue
        published = None
        if both.published is not None and rgb.published is not None:
            published = both.published - rgb.published
        results = {"both": reader.results(both.cell), "rgb": reader.results(rgb.cell)}
        ours = {
            name: {r.cell.seed: r for r in every if r.counts} for name, every in results.items()
        }
        seeds = tuple(sorted(ours["both"].keys() & ours["rgb"].keys()))
        found: Difference | None = None
        why = ""
        try:
            found = _difference([(ours["both"][s], ours["rgb"][s]) for s in seeds], reader)
        except _Unknown as reason:
            why = _missing(results) or str(reason)
        pairs.append(Pair(row, METHODS[method], published, found, seeds, why))
    return pairs


def _missing(results: dict[str, tuple[Result, ...]]) -> str:
    """Return which of the two has no result: ``RGB and Both not run``, ``RGB interrupted``."""
    states: dict[str, list[str]] = {}
    for name in ("rgb", "both"):
        if (state := state_among(results[name])) not in {DONE, STALE}:
            states.setdefault(state, []).append(BRANCHES[name])
    return ", ".join(f"{' and '.join(names)} {state}" for state, names in states.items())


class _Unknown(Exception):
    """A difference cannot be computed; the message has the reason."""


def _difference(runs: Sequence[tuple[Result, Result]], reader: Reader) -> Difference:
    if not runs:
        raise _Unknown("no seed in common")
    if len(set(comparable_data([result.data_hashes for result in _flat(runs)]))) > 1:
        raise _Unknown("tested on other frames")
    tables = [_counts(result, reader) for result in _flat(runs)]
    first = tables[0]
    for table in tables[1:]:
        if not table[["label", "frames"]].equals(first[["label", "frames"]]):
            raise _Unknown("tested on other frames")
    right = [table["right"].to_numpy(dtype=np.float64) for table in tables]
    gained = np.stack([both - rgb for both, rgb in zip(right[::2], right[1::2], strict=True)], 1)
    strata = list(zip(first.index.get_level_values("method"), first["label"], strict=True))
    return paired_difference(gained, first["frames"].to_numpy(dtype=np.float64), strata)


def _flat(runs: Sequence[tuple[Result, Result]]) -> Iterator[Result]:
    for pair in runs:
        yield from pair


def _counts(result: Result, reader: Reader) -> pd.DataFrame:
    """Count the frames and the correctly classified frames of each video of a run's test."""
    path = reader.runs / result.cell.name / "test_frames.csv"
    if not path.is_file():
        raise _Unknown(f"no {path.name}")
    try:
        return _per_video(path, result)
    except TokdError as error:
        reader.warn(str(error))
    except (OSError, ValueError, KeyError):
        reader.warn(f"{path} is not a table of scores")
    raise _Unknown(f"{path.name} unreadable")


def _per_video(path: Path, result: Result) -> pd.DataFrame:
    names = dict.fromkeys(_VIDEO, str)
    scores = pd.read_csv(path, usecols=_COLUMNS, dtype=names, keep_default_na=False)
    fake, score = scores["label"] == 1, scores["p_fake"].astype(float)
    if (
        not len(scores)
        or not (fake | (scores["label"] == 0)).all()
        or not score.between(0, 1).all()
    ):
        raise ValueError("scores")
    right = (score > 0.5) == fake
    accuracy = result.metrics.get(ACC)
    if accuracy is not None and abs(float(right.mean()) - accuracy) > 1e-4:
        raise TokdError(f"{path} has another accuracy than metrics.json: test the run again")
    videos = scores.assign(right=right).groupby(_VIDEO)
    return videos.agg(label=("label", "first"), frames=("right", "size"), right=("right", "sum"))
