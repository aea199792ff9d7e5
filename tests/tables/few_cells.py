"""``tokd table 3`` on a few cells, with :mod:`cell_tokd` in the place of what it starts."""

import json
import subprocess
import sys
from pathlib import Path

from tokd_lightning.cli import main
from tokd_lightning.schedule import plan
from tokd_lightning.schedule.plan import make_plan

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).with_name("cell_tokd.py")
ONLY = ["3", "--dataset", "demo", "--student", "resnet18_thin", "--log", "none"]
TEACHER = "synthetic-c40_teacher-both_s0"
VANILLA = "synthetic-c40_resnet18_thin_vanilla-none_s0"
RGB, BOTH = (f"synthetic-c40_resnet18_thin_tokd-{it}_s0" for it in ("rgb", "both"))


def fake(*args: object) -> list[str]:
    return [sys.executable, str(FAKE), *map(str, args)]


class Table:
    """``tokd table`` on a few cells in a folder, with a tokd that takes no time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        (folder / "data").mkdir()
        where = {"data": [str(folder / "data")], "runs": self.runs}
        made = make_plan("table3", dataset=["demo"], seeds=2, **where)
        names = {" ".join(made.arguments(cell)): cell.name for cell in made.cells}
        (folder / "names.json").write_text(json.dumps(names))
        self.happens({})

    def happens(self, plan: dict[str, str]) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def arguments(self, methods: str, *more: str) -> list[str]:
        where = ["--data", str(self.folder / "data"), "--runs", str(self.runs)]
        where += ["--cohort", "1"]
        return ["table", *ONLY, "--method", methods, *where, *more]

    def __call__(self, methods: str, *more: str) -> int:
        return main(self.arguments(methods, *more))

    def begin(self, methods: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, *self.arguments(methods, *more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def events(self) -> list[str]:
        path = self.folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


if __name__ == "__main__":
    plan.tokd = fake
    sys.exit(main(sys.argv[1:]))
