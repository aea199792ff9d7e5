"""CPU time of `tokd detect`: one picture, and frames of videos per CPU second.

`python -m benchmarks.cpu_of_detect MODEL --picture photo.jpg --videos folder [--against TREE]`
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import Spread, ratio, spread

ROOT = Path(__file__).parents[1]


class Cost(NamedTuple):
    """CPU seconds of each call, and the number of frames that a call scores."""

    seconds: list[float]
    frames: int


def call(tree: Path, model: Path, file: Path, python: str = sys.executable) -> tuple[float, int]:
    """Score a file or a folder in a new process.

    Args:
        tree: Folder that holds the package.
        model: The exported student.
        file: What to score.
        python: Interpreter; one of a plain installation measures that.

    Returns:
        CPU seconds of the process and its children, and the number of scored frames.
    """
    command = [python, "-m", "tokd_lightning", "detect", str(model), str(file), "--json"]
    given = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, sum(len(one["frames"]) for one in json.loads(done.stdout)["files"])


def measure(
    trees: list[Path], model: Path, file: Path, repeats: int, python: str = sys.executable
) -> list[Cost]:
    """Measure source trees in turn, so that they share what else the machine does.

    Args:
        trees: Source trees.
        model: The exported student.
        file: What to score.
        repeats: Calls of each.
        python: Interpreter.
    """
    calls = [[call(tree, model, file, python) for tree in trees] for _ in range(repeats)]
    return [Cost([used for used, _ in each], each[0][1]) for each in zip(*calls, strict=True)]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--against", type=Path, help="another source tree")
    parser.add_argument("--python", default=sys.executable, help="of a plain installation, say")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    trees = [ROOT] + ([given.against] if given.against else [])
    for file in filter(None, (given.picture, given.videos)):
        costs = measure(trees, given.model, file, given.repeats, given.python)
        for tree, cost in zip(trees, costs, strict=True):
            rate: Spread = spread([cost.frames / used for used in cost.seconds])
            print(f"{file.name}, {tree.name}: {spread(cost.seconds)} CPU s, {rate} frames / CPU s")
            print(f"  least: {min(cost.seconds):.2f} CPU s")
        if given.against:
            faster = ratio(costs[1].seconds, costs[0].seconds)
            least = min(costs[1].seconds) / min(costs[0].seconds)
            print(f"  {faster} x {trees[1].name}; of the least times {least:.2f} x")


if __name__ == "__main__":
    main()
