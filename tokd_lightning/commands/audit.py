"""``tokd audit``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked, importing, refuse_missing


def add_to(commands: Any) -> None:
    """Add ``tokd audit`` to the subcommands."""
    audit = commands.add_parser("audit", help="what runs are worth: faults, intervals, a verdict")
    audit.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, or a bundle")
    audit.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write (audit, next to the runs)"
    )
    audit.add_argument(
        "--data", type=Path, metavar="DIR", help="the runs' data: look for leaks and shortcuts too"
    )
    audit.add_argument(
        "--probe", metavar="NAME", help="pretrained backbone of a linear probe, the baseline"
    )
    audit.add_argument(
        "--weights", type=Path, metavar="FILE", help="its weights (default: downloaded)"
    )
    audit.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    audit.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> int:
    refuse_missing(options.runs)
    with importing():
        from tokd_lightning.audit.command import audit_command

    return audit_command(**asked(options))
