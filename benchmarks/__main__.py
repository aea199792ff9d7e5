"""`make bench`: the judged figures in one table and in JSON; with `--all` the whole matrix."""

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import device, judged, matrix, picture, scaling
from benchmarks.figures import MISSED, Row, table_of
from benchmarks.keeping import Kept, measure
from benchmarks.training import quiet
from tokd_lightning.errors import TokdError

EVERY = (*judged.PARTS, *matrix.PARTS, *scaling.PARTS)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    found.add_argument("--all", action="store_true", help="the whole matrix; goes on where it was")
    found.add_argument("--rerun", action="store_true", help="with --all: start again")
    found.add_argument("--only", nargs="+", default=[], metavar="PART")
    found.add_argument("--repeats", type=int, default=10, help="of each figure, fewer of slow ones")
    found.add_argument("--tiny", action="store_true", help="see that everything runs")
    found.add_argument("--out", type=Path, help="the JSON; default runs/benchmarks[_all].json")
    found.add_argument("--device", type=torch.device, help="measure the GPU half, there")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write the JSON and the picture.

    Returns:
        0, whatever the figures; 1 if a part failed, 2 for an error the user can fix.
    """
    given = parser().parse_args(arguments)
    quiet()
    try:
        return _main(given)
    except TokdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _main(given: argparse.Namespace) -> int:
    out = given.out or Path(f"runs/benchmarks{'_all' * given.all}.json")
    every = device.PARTS if given.device else EVERY if given.all or given.only else judged.PARTS
    names = [part.__name__ for part in every]
    if strange := [name for name in given.only if name not in names]:
        raise TokdError(f"--only: {strange[0]!r} is not one of {', '.join(names)}")
    if given.repeats < 2:
        raise TokdError(f"--repeats must be at least 2, for quartiles, not {given.repeats}")
    if given.device is not None:
        sizes = device.TINY if given.tiny else device.Sizes()
        device.run(given.device, sizes, out, given.only)
        return 0

    chosen = judged.TINY if given.tiny else judged.Sizes(repeats=given.repeats)
    parts = [part for part in EVERY if part in every]
    parts = [part for part in parts if not given.only or part.__name__ in given.only]
    rerun = given.rerun or not given.all
    torch.manual_seed(0)
    done, failed = measure(parts, chosen, out, rerun, Console(stderr=True))
    show(done, out)
    return 1 if failed else 0


def show(done: dict[str, Kept], out: Path) -> None:
    """Print the measured figures, and draw those with curves."""
    rows = [Row.from_json(row) for part in done.values() for row in part["rows"]]
    Console().print(table_of(rows, "Process time of one thread, interleaved"))
    missed = [row.what for row in rows if row.met is False]
    judged_rows = sum(row.met is not None for row in rows)
    print(f"targets met: {judged_rows - len(missed)} of {judged_rows}")
    for what in missed:
        print(f"{MISSED}: {what}")
    loads = [part["load"] for part in done.values() if part["load"] is not None]
    if loads:
        print(f"processes that wanted a core, after each part: {min(loads)} to {max(loads)}")
    print(f"JSON: {out}")
    if picture.draw(rows, out.with_suffix(".png")):
        print(f"picture: {out.with_suffix('.png')}")


if __name__ == "__main__":
    sys.exit(main())
