"""`make bench`: the judged figures in one table, and in JSON."""

import argparse
import json
import logging
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import add, device, frequency, loader, manifest, rotation, step, teacher
from benchmarks.timing import Spread
from tokd_lightning.provenance import versions
from tokd_lightning.runs import write_atomically

Row = tuple[str, str, Spread, str]


def rows(repeats: int) -> Iterator[Row]:
    """Measure one thing after the other: what, unit, spread, target.

    Args:
        repeats: Timed calls of each candidate; the slow ones take fewer.
    """
    targets = {0.1: ">= 8", 0.5: ">= 3"}
    for row in frequency.measure(repeats=repeats):
        what = f"torch_dct / filter, cutoff {row.cutoff}, 299 px"
        yield what, "x", row.speedup, targets.get(row.cutoff, "")
    faster = loader.measure(repeats=repeats).faster
    for form, what, target in (("jpeg", "JPEG q75", ">= 1.8"), ("pack", "packs", ">= 10")):
        yield f"frames from {what} / Pillow and ToTensor, 299 px", "x", faster[form], target
    opening = manifest.measure()["remembered"]
    yield "index of 5000 videos, 160,000 frames, remembered", "s", opening, "< 2"
    times, ratios = rotation.measure(repeats=max(2, repeats // 5))
    yield "both rotation updates, d 1024, N 64", "ms", times["ours"], "<= 60"
    for how, factor in ratios.items():
        yield f"torch orthogonal ({how}) / both rotation updates", "x", factor, ""
    yield "frozen teacher / eager, 299 px", "x", teacher.measure(repeats=3)["frozen"], ""
    for method, found in step.measure(repeats=repeats):
        target = {"TOKD both": "<= 1.15", "VID both": ""}.get(method, "<= 1.25")
        yield f"step / lower bound, {method}, 128 px, batch 8", "x", found.ratio, target
    for method, factor in step.head_macs().items():
        what = f"MACs of the heads / the student's, {method}, 128 px"
        yield what, "x", Spread(factor, factor, factor), ""
    share = add.measure(repeats=repeats)["share"]
    yield "ADD's losses / its step, ResNet50, 128 px, batch 8", "%", share, "<= 10"


def main() -> None:
    """Print the table row by row and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks.json"))
    parser.add_argument("--device", type=torch.device, help="measure the GPU half, there")
    parser.add_argument("--tiny", action="store_true", help="with --device: see that it runs")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[part.__name__ for part in device.PARTS]
    )
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    if given.device is not None:
        sizes = device.TINY if given.tiny else device.Sizes()
        device.run(given.device, sizes, given.out, given.only)
        return

    console = Console()
    measured = []
    with console.status("measuring, process time on one thread") as status:
        for row in rows(given.repeats):
            measured.append(row)
            status.update(f"measured {row[0]}")
    table = Table(title="Process time, one thread, interleaved", title_justify="left")
    for column in ("", "median", "quartiles", "target"):
        table.add_column(column, justify="right" if column else "left")
    for what, unit, (median, low, high), target in measured:
        table.add_row(what, f"{median:.2f} {unit}", f"{low:.2f} – {high:.2f}", target)
    console.print(table)
    about = {"machine": platform.machine(), "threads": 1, "versions": versions()}
    results = [
        {"what": what, "unit": unit, **spread._asdict(), "target": target}
        for what, unit, spread, target in measured
    ]
    write_atomically(given.out, json.dumps({**about, "results": results}, indent=2) + "\n")
    console.print(f"JSON: {given.out}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
