"""Stands for ``tokd``: notes its arguments and leaves what fit and test leave, in no time."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from planted import plant


def main(command: str, *args: str) -> None:
    with Path(os.environ["FAKE_CALLS"]).open("a") as file:
        file.write(json.dumps([command, *args]) + "\n")
    option = dict(zip(args[::2], args[1::2], strict=False))
    if command == "demo":
        Path(option["--out"]).mkdir(parents=True, exist_ok=True)
        return
    experiment = Path(option["--config"])
    assert experiment.is_file()
    if [command, experiment.name] == os.environ["FAKE_FAILURE"].split():
        sys.exit("tokd: out of luck")
    kind = {"demo_teacher.yaml": "teacher-both", "demo_vanilla.yaml": "vanilla-none"}.get(
        experiment.name, f"tokd-{option.get('--model.distiller.branches', 'both')}"
    )
    if kind.startswith("tokd"):
        assert Path(option["--model.teacher"]).is_file(), "no teacher"
    runs = Path(option["--runs"])
    with tempfile.TemporaryDirectory() as spare:
        seed = int(option["--seed_everything"])
        made = plant(Path(spare), kind, f"synthetic-{option['--data.quality']}", seed)
        folder = runs / made.name
        if command == "test":
            shutil.copy(made / "metrics.json", folder)
        elif folder.exists():
            assert "--reuse" in args
            print(f"{folder}: finished, reused")
        else:
            shutil.copytree(made, folder, ignore=shutil.ignore_patterns("metrics.json"))
            results = json.loads((made / "metrics.json").read_text())
            (folder / "metrics.json").write_text(json.dumps(results | {"metrics": {}}))
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "best.ckpt").write_text("")
            print("epoch 6/6  loss 0.1")


main(*sys.argv[1:])
