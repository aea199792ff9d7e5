"""A method of the user's own through the command line, and the mistakes that are made with one."""

import sys

import pytest
import torch
from pages import files
from test_cli import ROOT, TINY_STUDENT, TINY_TEACHER, TINY_TOKD, folder, tokd

PARTS = ROOT / "configs" / "distillers"

PAGE = files((ROOT / "docs/extend.md").read_text(encoding="utf-8"))
OWN, LEAST = PAGE["ownpkg/cosine.py"], PAGE["leastmethod.py"]
YAML = "class_path: {package}.cosine.Cosine\ninit_args:\n  weight: 3.0\n  taps: [16, 32]\n"


@pytest.fixture(scope="module")
def teachers(tiny_ffpp, small_teacher, tmp_path_factory):
    runs = tmp_path_factory.mktemp("teachers")
    options = [*TINY_TEACHER, "--model.branches=rgb"]
    assert tokd("fit", "demo_teacher", tiny_ffpp, runs, *options) == 0
    return {"both": small_teacher, "rgb": folder(runs, "-rgb_s0") / "checkpoints/best.ckpt"}


def test_a_file_in_the_working_directory_is_a_method(tiny_ffpp, teachers, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "ownpkg").mkdir(parents=True)
    (here / "ownpkg" / "cosine.py").write_text(OWN)
    (here / "cosine.yaml").write_text(YAML.format(package="ownpkg"))
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(here))])
    options = [*TINY_STUDENT, f"--model.teacher={teachers['both']}"]
    options.append("--model.distiller=cosine.yaml")
    runs = tmp_path / "runs"
    for command in ("fit", "test"):
        assert tokd(command, "demo_tokd", tiny_ffpp, runs, *options) == 0
    run = folder(runs, "test_resnet_cosine-both_s0")
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    heads = {name for name in state if name.startswith("distiller.")}
    assert len(heads) == 2 * 2 * 2
    assert "train/frequency" in (run / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.slow
def test_an_init_and_a_forward_make_a_method(tiny_ffpp, teachers, tmp_path, monkeypatch):
    (tmp_path / "leastmethod.py").write_text(LEAST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = [*TINY_STUDENT, f"--model.teacher={teachers['rgb']}"]
    options.append("--model.distiller=leastmethod.Least")
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path / "runs", *options) == 0
    run = folder(tmp_path / "runs", "test_resnet_least-none_s0")
    assert "train/logits" in (run / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.thinned(8)
@pytest.mark.parametrize(
    ("teacher", "options", "says"),
    [
        ("both", ["--model.distiller=FooKD"], "distiller: FooKD is neither a file nor a class"),
        ("both", ["--model.distiller=FooKD"], "tokd methods lists those there are"),
        ("both", ["--model.distiller=no.such.Method"], "distiller: no.such.Method is neither"),
        ("both", ["--model.distiller=torch.nn.Linear"], "torch.nn.Linear is no Distiller"),
        ("both", ["--model.distiller=no/such.yaml"], "distiller: no/such.yaml is neither a file"),
        ("both", ["at", "--model.distiller.taps=[64]"], "no feature map at stride 64 (it has [4,"),
        ("both", ["at", "--model.distiller.taps=[]"], "taps must name strides"),
        ("both", ["at", "--model.distiller.taps=deep"], "taps: expected a list"),
        ("both", ["at", "--model.distiller.weight=.nan"], "weight must be finite"),
        ("both", ["at", "--model.distiller.weight=.inf"], "weight must be finite"),
        (
            "both",
            ["sp", "--model.distiller.branches=all"],
            "branches: choose from rgb, frequency, both",
        ),
        ("both", ["add", "--model.distiller.view_weights=[1,2]"], "Got value: [1, 2]"),
        ("both", ["at", "--model.distiller.rotation=learned"], "AttentionTransfer cannot take rot"),
        ("both", ["sp", "--model.distiller.rotation=learned"], "Preserving cannot take rotation"),
        ("both", ["pkt", "--model.distiller.rotation=learned"], "PKT cannot take rotation"),
        ("both", ["hinton", "--model.distiller.rotation=learned"], "Hinton cannot take rotation"),
        ("both", ["--model.distiller.conflict=gradvac"], "conflict: choose from none, pcgrad"),
        ("both", [*TINY_TOKD, "--model.distiller.dim=4096"], "dim 4096 does not fit"),
        (
            "both",
            ["fitnet", "--model.distiller.conflict=pcgrad", "--model.distiller.branches=rgb"],
            "only the rgb branch is distilled: set branches: both, or conflict: none",
        ),
        ("rgb", ["at"], "reads the frequency branch, but this teacher has only rgb"),
        ("rgb", ["vid", "--model.distiller.branches=frequency"], "this teacher has only rgb"),
        ("missing", ["hinton"], "no checkpoint at"),
        (None, ["hinton"], "name its checkpoint with --model.teacher"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_with_a_method_is_one_line_and_leaves_nothing_behind(
    teachers, teacher, options, says, tiny_ffpp, tmp_path, capsys
):
    path = teachers.get(teacher, None if teacher is None else "/no/best.ckpt")
    part = PARTS / f"{options[0]}.yaml"
    if part.is_file():
        options = [f"--model.distiller={part}", *options[1:]]
    given = [f"--model.teacher={'null' if path is None else path}", *TINY_STUDENT, *options]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *given) == 2
    error = capsys.readouterr().err
    assert error.startswith("tokd: ")
    assert error.count("\n") == 1
    assert says in error
    assert not list(tmp_path.iterdir())


def test_a_part_whose_class_is_not_there_is_named(tiny_ffpp, teachers, tmp_path, capsys):
    part = tmp_path / "own.yaml"
    part.write_text(YAML.format(package="nowhere"))
    given = [f"--model.teacher={teachers['both']}", *TINY_STUDENT, f"--model.distiller={part}"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path / "runs", *given) == 2
    expected = f"tokd: --model.distiller: {part} names no class that can be imported\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_rotation_that_one_branch_does_not_get_is_told(tiny_ffpp, teachers, tmp_path, capsys):
    options = [*TINY_TOKD, f"--model.teacher={teachers['rgb']}", "--model.distiller.branches=rgb"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 0
    assert capsys.readouterr().err == "INFO: only the rgb branch is distilled: rotation none\n"
