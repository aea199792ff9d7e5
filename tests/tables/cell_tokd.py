"""Stands for ``tokd`` in the jobs of a cluster: leaves what fit and test leave, and notes both.

``CELL_TOKD`` is a folder: ``names.json`` says which arguments are which run, ``events`` gets a line
for what happens, ``plan.json`` says what is to happen: ``{"fit NAME": "fail"}`` and the like.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from tokd_lightning.runs.identity import recipe_hash
from tokd_lightning.runs.provenance import source_hash

HERE = Path(os.environ["CELL_TOKD"])


def note(event: str) -> None:
    with (HERE / "events").open("a") as file:
        file.write(event + "\n")


def main(command: str, *args: str) -> None:
    if "--also" in args:  # a cohort; each cell has all its arguments
        left = args[3:]
        while left:
            at = left.index("--also") if "--also" in left else len(left)
            main("fit", *left[:at])
            main("test", *left[:at])
            left = left[at + 1 :]
        return
    if args[-1:] == ("--test",):
        main("fit", *args[:-1])
        main("test", *args[:-2])
        return
    if command == "inputs":
        print(json.dumps({"data": "as ever"}))
        return
    given = list(args[: args.index("--log")])
    name = json.loads((HERE / "names.json").read_text())[" ".join(given)]
    folder = Path(given[given.index("--runs") + 1]) / name
    asked = json.loads((HERE / "plan.json").read_text()).get(f"{command} {name}")
    if asked == "fail":
        note(f"{command} {name} fails")
        sys.exit("tokd: out of luck")
    if command == "test":
        note(f"test {name}")
        results = json.loads((folder / "metrics.json").read_text())
        results["metrics"]["test/frame/acc"] = 0.9
        (folder / "metrics.json").write_text(json.dumps(results))
        return
    if "--model.teacher" in given:
        assert Path(given[given.index("--model.teacher") + 1]).is_file(), "no teacher"
    if (folder / "metrics.json").exists():
        assert args[-1] == "--reuse"
        note(f"fit {name} reused")
        return
    hashes = {"recipe": recipe_hash(given), "data": "as ever"}
    last = folder / "checkpoints" / "last.ckpt"
    note(f"fit {name} resumes" if last.exists() else f"fit {name}")
    last.parent.mkdir(parents=True, exist_ok=True)
    (folder / "inputs.json").write_text(json.dumps(hashes))
    if asked and not last.exists():
        last.write_text("")
        be_stopped(name, asked)
    last.write_text("")
    (last.parent / "best.ckpt").write_text("")
    hashes |= {"source": source_hash()}
    (folder / "metrics.json").write_text(json.dumps({"hashes": hashes, "metrics": {}}))
    print("epoch 2/2  loss 0.1")


def be_stopped(name: str, how: str) -> None:
    """Do as a fit in its second epoch while someone stops its job; SIGTERM ends it politely."""

    def leave(number: int, frame: object) -> NoReturn:
        time.sleep(1.2 if how == "wait" else 0)  # there may be something to write
        note(f"fit {name} stopped")
        sys.exit(143 if number == signal.SIGUSR1 else 130)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, leave)
    print("epoch 1/2  loss 0.2", flush=True)
    (HERE / "pids").write_text(f"{os.getpid()} {os.getppid()}")
    if how in {"USR2", "TERM"}:
        number = signal.Signals[f"SIG{how}"]
        if how == "USR2":  # SLURM sends it to every process of a job
            os.kill(os.getpid(), number)
        os.kill(os.getppid(), number)
    for _ in range(600):  # a signal just before a sleep is noticed only after it
        time.sleep(0.1)


main(*sys.argv[1:])
