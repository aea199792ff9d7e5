"""``tokd table``, whose options ``tokd figure`` shares."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked
from tokd_lightning.errors import TokdError
from tokd_lightning.extras import require

BEYOND = ("beyond", "generalise")  # tables that are not in the paper
LIMIT = 16  # fits of a cohort
# For an option that takes several values and can be repeated.
SEVERAL: dict[str, Any] = {"nargs": "+", "default": [], "action": "extend"}
_FILTERS = {  # the names that the tables' cells have for it
    "dataset": "ffpp, celebdf, demo, demo-c23 (the paper's two)",
    "student": "resnet18_thin, resnet34_thin, xception (all)",
    "method": "vanilla, hinton, tokd, at, pkt, vid, sp, fitnet, teacher, multitask, twobranch, "
    "spsl, rfm, addnet, facexray, f3net, multiatt (all)",
    "branches": "none, rgb, frequency, both (all)",
}


def add_to(commands: Any) -> None:
    """Add ``tokd table`` to the subcommands."""
    table = commands.add_parser("table", help="make a table of the paper, with published values")
    table.add_argument(
        "number",
        choices=[*map(str, range(1, 8)), *BEYOND],
        metavar="1…7|beyond|generalise",
        help="table",
    )
    add_grid(table)
    table.set_defaults(run=make, kind="table")


def add_grid(parser: argparse.ArgumentParser) -> None:
    """Add the options common to all tables and figures of the paper."""
    add = parser.add_argument
    add("--dry-run", action="store_true",
        help="show the table with what is done, running, queued and to do")  # fmt: skip
    add("--commands", action="store_true", help="with --dry-run: the command of every run")
    add("--estimate", action="store_true", help="time a few batches: hours and memory to go")
    for name, known in _FILTERS.items():
        add(f"--{name}", type=names, default=[], metavar="A,B", help=f"only these: {known}")
    add("--seeds", type=int, default=1, metavar="N", help="seeds per student (1)")
    add(
        "--data",
        **SEVERAL,
        metavar="NAME=DIR",
        help="folders of the data sets, as ffpp=/data/ffpp",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of all run folders")
    add("--workers", type=int, metavar="N", help="fits at a time (one per GPU, two without)")
    add("--cohort", type=int, default=LIMIT, metavar="N",
        help=f"fits of a process, which share batches and teacher ({LIMIT}; 1: none)")  # fmt: skip
    add("--rerun", action="store_true", help="set stale runs aside and make them again")
    add_settings(parser)
    add_recipe(parser)
    add("--cluster", choices=("slurm", "local"), help="one job per run: in SLURM's queue, or here")
    add("--slurm", **SEVERAL, metavar="KEY=VALUE",
        help="options of the jobs, in submitit's names: time=1440 gpus_per_node=1")  # fmt: skip
    add("--export", choices=("sbatch",), help="write a SLURM script that needs only tokd")
    add("--out", type=Path, metavar="FILE", help="script that --export writes (RUNS/tableN.sbatch)")
    add("--log", type=_views, default="wandb", metavar="V",
        help="where curves also go: wandb (default), tensorboard, "
        "mlflow, several with commas, none")  # fmt: skip


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add ``--recipe``."""
    parser.add_argument("--recipe", choices=("paper", "house"), default="paper",
        help="recipe of the detectors of Tables 2 and 7: their papers' or Sec. 5.2's")  # fmt: skip


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``, options of all fits."""
    parser.add_argument("--set", **SEVERAL, metavar="KEY=VALUE", dest="settings",
        help="options for all fits, such as trainer.precision=bf16-mixed")  # fmt: skip


def _views(text: str) -> str:
    known = ("wandb", "tensorboard", "mlflow", "none")
    if wrong := set(text.split(",")).difference(known):
        raise argparse.ArgumentTypeError(f"{min(wrong)!r} is not one of {', '.join(known)}")
    return text


def names(text: str) -> list[str]:
    """Split names with commas between them."""
    return [name for name in text.split(",") if name]


def make(options: argparse.Namespace) -> int:
    """Make a table or a figure, or show what it would take; return the exit code."""
    from tokd_lightning.schedule.export import export_sbatch
    from tokd_lightning.schedule.plan import make_plan
    from tokd_lightning.schedule.reproduce import dry_run, estimate, reproduce

    given = asked(options)
    kind, number = given.pop("kind"), str(options.number)
    key = number if number in BEYOND else f"{kind}{number}"
    del given["number"]
    if key == "table1":
        return _sizes(given)
    dry, timed, workers = (given.pop(name) for name in ("dry_run", "estimate", "workers"))
    cluster, slurm, script, out = (given.pop(k) for k in ("cluster", "slurm", "export", "out"))
    if (cluster and script) or (out and not script) or (slurm and not (cluster or script)):
        raise TokdError("--slurm goes with either --cluster or --export, --out with --export")
    commands = given.pop("commands")
    if commands and not dry:
        raise TokdError("--commands goes with --dry-run")
    plan = make_plan(key, **given)
    for said in {one.experiment: one.edited() for one in plan.cells if one.edited()}.values():
        print(f"note: {said}")
    if dry:
        dry_run(plan, workers, commands=commands, cluster=cluster)
        return 0
    if not script:
        require("torch", "table")
    if timed:
        return estimate(plan, workers)
    if script:
        return export_sbatch(plan, slurm, out)
    return reproduce(plan, workers, cluster=cluster, slurm=slurm)


def _sizes(given: dict[str, Any]) -> int:
    """Compute Table 1, which needs no training."""
    runs: Path = given["runs"]
    if given["dry_run"]:
        print("table1: Size of the networks at 299 px. Computed here, no run is needed")
        return 0
    from tokd_lightning.evaluation.sizes import measure_sizes
    from tokd_lightning.report.command import report

    measure_sizes(runs / "table1.json")
    return report(runs, ["table1"], out=runs / "report" / "table1")
