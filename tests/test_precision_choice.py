"""The precision that a configuration leaves open: chosen once per run, recorded, never mixed."""

import pytest
import torch
import yaml
from test_cli import ROOT

from tokd_lightning.cli import main
from tokd_lightning.runs.folder import Run
from tokd_lightning.training import precision
from tokd_lightning.training.cli import TokdCLI


@pytest.fixture
def gpus(monkeypatch):
    """Let torch and Lightning see GPUs of the capabilities that the test names."""

    def install(*majors):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(majors))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(majors))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda n: (majors[n], 0))

    return install


@pytest.mark.parametrize(
    ("majors", "accelerator", "devices", "expected"),
    [
        ((9,), "auto", "auto", "bf16-mixed"),
        ((8,), "gpu", 1, "bf16-mixed"),
        ((8, 9), "cuda", 2, "bf16-mixed"),
        ((7,), "auto", "auto", "32-true"),
        ((8, 7), "auto", "auto", "32-true"),
        ((8, 7), "auto", -1, "32-true"),
        ((8, 7), "gpu", 1, "bf16-mixed"),
        ((8, 7), "gpu", "1,", "32-true"),
        ((7, 8), "gpu", [1], "bf16-mixed"),
        ((9,), "cpu", "auto", "32-true"),
        ((), "auto", "auto", "32-true"),
    ],
)
def test_gpus_from_ampere_on_get_bfloat16(gpus, majors, accelerator, devices, expected):
    gpus(*majors)
    assert precision.default_precision(accelerator, devices) == expected


@pytest.fixture(scope="module")
def options(tiny_ffpp):
    """A fit of a teacher by an experiment that leaves the precision open, on the CPU."""
    return [
        f"--config={ROOT}/experiments/ffpp_teacher.yaml",
        f"--data.root={tiny_ffpp}",
        *("--data.quality=c23", "--data.size=48", "--data.crop=40", "--data.batch_size=8"),
        *("--data.num_workers=0", "--data.frames_per_video=1"),
        *("--model.backbone=test_resnet", "--model.pretrained=false", "--model.width=16"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
        *("--trainer.limit_train_batches=2", "--log=none"),
    ]


@pytest.fixture
def machine(monkeypatch):
    """Let this machine choose a precision by itself."""
    return lambda choice: monkeypatch.setattr(precision, "default_precision", lambda *_: choice)


@pytest.mark.slow
def test_the_choice_is_recorded_and_a_test_keeps_it(options, machine, tmp_path, caplog):
    runs = [*options, f"--runs={tmp_path}"]
    machine("bf16-mixed")
    assert main(["fit", *runs]) == 0
    assert "precision: bf16-mixed, which --trainer.precision changes" in caplog.text
    [run] = map(Run, tmp_path.iterdir())
    assert run.config()["trainer"]["precision"] == "bf16-mixed"
    assert run.results().precision == "bf16-mixed"

    machine("32-true")  # another machine
    assert main(["test", *runs]) == 0
    assert "precision: bf16-mixed, as the run was started, not 32-true" in caplog.text
    assert run.config("test")["trainer"]["precision"] == "bf16-mixed"
    losses = [run.results().metrics["test/loss"]]
    assert main(["test", f"--config={run.folder}/fit.yaml", "--trainer.precision=32-true"]) == 0
    losses.append(run.results().metrics["test/loss"])
    assert losses[0] != losses[1]
    assert main(["fit", *runs, "--reuse"]) == 0  # it is that run, here as well


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_the_precision_it_was_started_in(
    options, machine, tmp_path, caplog, capsys
):
    machine("bf16-mixed")
    runs = [*options, f"--runs={tmp_path}"]
    assert main(["fit", *runs]) == 0
    [run] = map(Run, tmp_path.iterdir())
    (run.folder / "metrics.json").unlink()  # as if it had been killed before the end
    machine("32-true")
    assert main(["fit", *runs]) == 0
    assert "precision: bf16-mixed, as the run was started, not 32-true" in caplog.text
    assert "resuming" in caplog.text
    assert run.results().precision == "bf16-mixed"

    (run.folder / "metrics.json").unlink()
    given = [*runs, "--trainer.precision=32-true", f"--name={run.folder.name}"]
    assert main(["fit", *given]) == 2
    assert "another configuration (trainer.precision): --rerun" in capsys.readouterr().err
    assert main(["fit", *runs, "--rerun"]) == 0  # anew, as this machine does
    assert run.results().precision == "32-true"

    old = run.config()  # of before there was a choice, when nothing was float32
    del old["trainer"]["precision"]
    run.save_config("fit", old)
    machine("bf16-mixed")
    assert main(["fit", *runs, "--reuse"]) == 0
    assert "precision: 32-true, as the run was started, not bf16-mixed" in caplog.text


class Named(TokdCLI):
    """Finds out which run it is, and builds nothing."""

    def instantiate_classes(self):
        pass

    def _run_subcommand(self, subcommand):
        pass


@pytest.mark.slow
def test_the_name_says_what_was_asked_for_not_what_was_chosen(options, machine, tmp_path):
    names = {}
    for choice in ("32-true", "bf16-mixed"):
        machine(choice)
        for asked in (None, "32-true", "bf16-mixed"):
            given = [] if asked is None else [f"--trainer.precision={asked}"]
            cli = Named(["fit", *options, f"--runs={tmp_path}", *given])
            names[choice, asked] = cli.run.folder.name
            assert cli.resolved["trainer"]["precision"] == (asked or choice)
            assert cli.config["fit"].trainer.precision == (asked or choice)
    for asked in (None, "32-true", "bf16-mixed"):
        assert names["32-true", asked] == names["bf16-mixed", asked]
    assert len(set(names.values())) == 3


def test_devices_that_are_not_there_are_refused_in_one_line(gpus, options, tmp_path, capsys):
    gpus(8)
    own = [*options, "--trainer.accelerator=gpu", "--trainer.devices=3", f"--runs={tmp_path}"]
    assert main(["fit", *own]) == 2
    error = capsys.readouterr().err
    assert "requested gpu: [0, 1, 2] But your machine only has: [0]" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_shipped_experiment_of_the_paper_fixes_a_precision():
    for path in (ROOT / "experiments").glob("*.yaml"):
        precision = yaml.safe_load(path.read_text())["trainer"].get("precision")
        assert precision == ("32-true" if path.name.startswith("demo_") else None)


@pytest.mark.parametrize("plugin", ["MixedPrecision", {"class_path": "a.b.MixedPrecision"}])
def test_a_precision_given_as_a_plugin_is_not_given_twice(machine, plugin):
    machine("bf16-mixed")
    trainer = {"precision": None, "accelerator": "auto", "devices": "auto"}
    assert precision.settle_precision({"trainer": {**trainer, "plugins": [plugin]}}, None) is None
    assert precision.settle_precision({"trainer": trainer}, None) == "bf16-mixed"
