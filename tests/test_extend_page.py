"""The files of docs/extend.md, written to a folder and used by the page's own commands."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pages import ROOT, commands, files
from PIL import Image
from test_cli import folder
from trees import draw, make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.data.manifest_table import ManifestDataModule

PAGE = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
FILES = files(PAGE)
COMMANDS = [command[1:] for command in commands(PAGE)]
SMALL = [
    "--data.size=64",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--data.samples_per_epoch=16",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--log=none",
]
STUDENT = [*SMALL, "--model.distiller=Vanilla"]
TINY = [*STUDENT, "--model.student=test_resnet"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A working directory as the page has it: its files, the experiments, two data sets."""
    here = tmp_path_factory.mktemp("workplace")
    for name, text in FILES.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text, encoding="utf-8")
    for name in ("experiments", "configs"):
        (here / name).symlink_to(ROOT / name)
    make_ffpp(here / "data/ffpp", frames=2, qualities=("c40",))
    for kind, method in enumerate(("live", "forged")):
        for person in range(10):
            place = here / f"data/mine/{method}/p{person:02d}_{kind}"
            place.mkdir(parents=True)
            for frame in range(2):
                Image.fromarray(draw(person, frame, 48, kind)).save(place / f"{frame}.png")
    return here


@pytest.fixture
def here(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(workplace))])
    return workplace


def the(*words):
    """The page's command with these words in it, the first and shortest of them."""
    return min((command for command in COMMANDS if set(words) <= set(command)), key=len)


def test_the_page_shows_the_files_that_its_commands_name():
    assert set(FILES) == {
        "ownpkg/cosine.py", "cosine.yaml", "leastmethod.py", "mynets.py", "list_frames.py",
        "mydata.py",
    }  # fmt: skip


@pytest.mark.slow
def test_a_network_of_one_s_own_is_listed_and_trained(here, capsys):
    assert main(the("methods")) == 0
    assert "mynets.four_stages distilled from mynets.four_stages" in capsys.readouterr().out
    assert main([*the("--model.student"), *STUDENT]) == 0
    run = folder(here / "runs", "mynets.four_stages_vanilla")
    assert (run / "checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_a_list_of_one_s_own_is_verified_and_trained_on(here):
    subprocess.run([sys.executable, "list_frames.py", "data/mine"], check=True)
    assert main(the("verify")) == 0
    assert main([*the("experiments/own_res18t.yaml"), *TINY]) == 0
    assert folder(here / "runs", "mine-unknown_test_resnet_vanilla")


@pytest.mark.slow
def test_a_data_module_of_one_s_own_reads_the_same_frames_as_the_list(here):
    runs = here / "of-the-module"
    assert main([*the("mydata.MineDataModule"), *TINY, f"--runs={runs}"]) == 0
    [run] = runs.iterdir()
    config = yaml.safe_load((run / "fit.yaml").read_text())
    assert config["data"]["class_path"] == "mydata.MineDataModule"
    from mydata import MineDataModule  # the page's file, in the working directory

    subprocess.run([sys.executable, "list_frames.py", "data/mine"], check=True)
    root, columns = Path("data/mine"), ["path", "method", "video", "target", "split"]
    ours, theirs = (
        module(root).manifest[columns].sort_values("path", ignore_index=True)
        for module in (MineDataModule, ManifestDataModule)
    )
    assert ours.equals(theirs)
    assert set(ours["split"]) == {"train", "val", "test"}


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(here):
    runs = here / "whole"
    subprocess.run([sys.executable, "list_frames.py", "data/mine"], check=True)
    small = [*SMALL, f"--runs={runs}", "--rerun"]
    teachers = {}
    for command in COMMANDS:
        if command[0] == "fit" and "teacher" in " ".join(command):
            own = [] if "mynets.four_stages" in command else ["--model.backbone=test_resnet"]
            options = [*own, "--model.pretrained=false", "--model.width=16", *small]
            assert main([*command, *options]) == 0
            [best] = set(runs.glob("*teacher*/checkpoints/best.ckpt")) - set(teachers.values())
            teachers[best.parts[-3].partition("-")[0]] = best
    assert set(teachers) == {"ffpp", "mine"}
    for command in COMMANDS:
        if command[0] == "fit" and "teacher" not in " ".join(command):
            teacher = teachers["mine" if "mine" in command else "ffpp"]
            own = [] if "--model.student" in command else ["--model.student=test_resnet"]
            if "--model.distiller" not in command:
                own += ["--model.distiller.width=16", "--model.distiller.dim=64"]
            assert main([*command, *own, f"--model.teacher={teacher}", *small]) == 0
