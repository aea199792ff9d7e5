"""Jobs that share batches and a teacher, in cohorts: one process for several fits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
from itertools import pairwise
from typing import cast

from tokd_lightning.schedule.jobs import Commands, Job
from tokd_lightning.schedule.plan import Steps

# Share of what a fit costs alone that a cohort pays once, where it is not timed: the teacher takes
# 0.87 of a step at 299 px, and 0.4 with the demo's small networks.
_SHARED = 0.6


@dataclass(frozen=True)
class CohortSteps:
    """The command of a cohort, of the cells that are still left to do when it starts.

    Args:
        parts: The steps of each cell.
    """

    parts: Sequence[Steps]

    def __call__(self) -> Commands:
        """Check the states of the cells and return what is left."""
        left = [steps for steps in self.parts if steps()]
        if len(left) < 2:
            return [command for steps in left for command in steps()]
        commands = [steps.fitting() for steps in left]
        first = commands[0].index("fit") + 1
        logs = str(left[0].runs / "logs")  # exists: the cohort's own log is there
        joined = [*commands[0][:first], "--test", "--logs", logs, *commands[0][first:]]
        for command in commands[1:]:
            joined += ["--also", *command[first:]]
        return [joined]


def in_cohorts(
    jobs: Sequence[Job], limit: int, workers: int, shared: Mapping[str, float] | None = None
) -> list[Job]:
    """Return the jobs with those that may share in cohorts, so that the last ends early.

    Args:
        jobs: Jobs of one cell each, or of something else.
        limit: Most fits of a cohort; 1 leaves all jobs single.
        workers: Number of jobs that run at a time.
        shared: Name of a job -> what of its ``expected`` a cohort pays once; None if it is unknown.
    """
    groups: dict[object, list[Job]] = {}
    for number, job in enumerate(jobs):
        # With several workers a fit that needs no teacher starts before those that wait for one.
        alone = limit == 1 or not job.share
        key = number if alone else (job.share, tuple(job.needs) if workers > 1 else ())
        groups.setdefault(key, []).append(job)
    known = {} if shared is None else shared
    best = min(
        (_divided(groups.values(), size) for size in range(min(limit, len(jobs)), 0, -1)),
        key=lambda parts: _last_end(parts, workers, known),
        default=[],
    )
    merged = [_merged(part, known) for part in best]
    place = {part.name: job.name for job in merged for part in job.parts}
    return [
        replace(job, needs=list(dict.fromkeys(place.get(need, need) for need in job.needs)))
        for job in merged
    ]


def _divided(groups: Iterable[list[Job]], size: int) -> list[list[Job]]:
    """Divide each group into as few equal parts of at most ``size`` jobs as there can be."""
    parts = []
    for group in groups:
        number = -(-len(group) // size)
        ends = [round(len(group) * part / number) for part in range(number + 1)]
        parts += [group[a:b] for a, b in pairwise(ends)]
    return parts


def _cost(part: Sequence[Job], shared: Mapping[str, float]) -> float:
    once = [shared.get(job.name, _SHARED * job.expected) for job in part]
    return max(once) + sum(job.expected - own for job, own in zip(part, once, strict=True))


def _last_end(parts: Sequence[Sequence[Job]], workers: int, shared: Mapping[str, float]) -> float:
    """Return when the last part ends if a free worker takes the longest one that is left."""
    free = [0.0] * workers
    for cost in sorted((_cost(part, shared) for part in parts), reverse=True):
        heapreplace(free, free[0] + cost)
    return max(free)


def _merged(part: Sequence[Job], shared: Mapping[str, float]) -> Job:
    if len(part) == 1:
        return part[0]
    first = part[0]
    names = [job.name for job in part]
    needs = dict.fromkeys(need for job in part for need in job.needs if need not in names)
    name = f"{first.name} and {len(part) - 1} more"
    return replace(
        first,
        name=name,
        commands=CohortSteps([cast(Steps, job.commands) for job in part]),
        log=first.log.with_name(f"{first.log.stem}_and_{len(part) - 1}_more.log"),
        needs=list(needs),
        lock=None,
        expected=_cost(part, shared),
        parts=tuple(part),
    )
