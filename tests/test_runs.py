import copy
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text
from tokd_lightning.runs.folder import Run, letting_go
from tokd_lightning.runs.identity import ADDED, EVALUATION, cell, config_hash, differences, run_name
from tokd_lightning.runs.record import RunRecord

EXPERIMENT = {
    "seed_everything": 0,
    "runs": "runs",
    "trainer": {"max_epochs": 15, "devices": "auto"},
    "data": {
        "class_path": "tokd_lightning.data.FFPPDataModule",
        "init_args": {"root": "data/ffpp", "name": "ffpp", "quality": "c40", "seed": 0},
    },
    "model": {
        "class_path": "tokd_lightning.modules.DistillModule",
        "init_args": {
            "student": "resnet18_thin",
            "seed": 0,
            "teacher": "runs/t/checkpoints/best.ckpt",
            "distiller": {
                "class_path": "tokd_lightning.distillation.TOKD",
                "init_args": {"dim": 1024, "branches": "both"},
            },
        },
    },
}


def changed(**values):
    config = copy.deepcopy(EXPERIMENT)
    for key, value in values.items():
        *path, last = key.split("__")
        block = config
        for part in path:
            block = block[part]
        block[last] = value
    return config


def test_the_name_says_the_cell():
    assert run_name(EXPERIMENT, EXPERIMENT) == "ffpp-c40_resnet18_thin_tokd-both_s0"


def test_a_teacher_is_named_by_its_data_and_seed():
    config = changed()
    config["model"] = {"class_path": "m.TeacherModule", "init_args": {"backbone": "xception"}}
    assert run_name(config, config) == "ffpp-c40_teacher-both_s0"


@pytest.mark.parametrize("branches", ["both", "rgb", "frequency"])
def test_a_teacher_s_branches_are_part_of_its_name(branches):
    config = changed()
    config["model"] = {
        "class_path": "m.TeacherModule",
        "init_args": {"backbone": "xception", "branches": branches},
    }
    other = copy.deepcopy(config)
    other["model"]["init_args"]["branches"] = "both"
    assert run_name(config, other) == f"ffpp-c40_teacher-{branches}_s0"


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ({"seed_everything": 3, "data__init_args__seed": 3}, "ffpp-c40_resnet18_thin_tokd-both_s3"),
        ({"data__init_args__quality": "c23"}, "ffpp-c23_resnet18_thin_tokd-both_s0"),
        ({"model__init_args__student": "xception"}, "ffpp-c40_xception_tokd-both_s0"),
        (
            {"model__init_args__distiller__init_args__branches": "rgb"},
            "ffpp-c40_resnet18_thin_tokd-rgb_s0",
        ),
    ],
)
def test_an_override_inside_the_cell_changes_the_name_without_a_hash(override, name):
    assert run_name(changed(**override), EXPERIMENT) == name


def test_an_override_outside_the_cell_appends_its_hash():
    a = run_name(changed(trainer__max_epochs=2), EXPERIMENT)
    b = run_name(changed(trainer__max_epochs=3), EXPERIMENT)
    assert a != b
    assert a.rpartition("-")[0] == b.rpartition("-")[0] == run_name(EXPERIMENT, EXPERIMENT)
    assert len(a.rpartition("-")[2]) == 6


@pytest.mark.parametrize(
    "override",
    [
        {"data__init_args__root": "/elsewhere"},
        {"trainer__devices": 4},
        {"runs": "other"},
        {"model__init_args__teacher": "x.ckpt"},
    ],
)
def test_where_things_lie_changes_neither_name_nor_hash(override):
    config = changed(**override)
    assert run_name(config, EXPERIMENT) == run_name(EXPERIMENT, EXPERIMENT)
    assert config_hash(config) == config_hash(EXPERIMENT)
    assert differences(config, EXPERIMENT) == []


def test_a_default_left_out_equals_the_default_spelt_out():
    without = copy.deepcopy(EXPERIMENT)
    del without["model"]["init_args"]["distiller"]["init_args"]["dim"]
    assert config_hash(without) == config_hash(EXPERIMENT)


# Computed at commit 046bd3b, before the options of ADDED.
BEFORE = {"TeacherModule": "a2a15ee5fc30", "DetectorModule": "b5191434034f"}
BEFORE["DistillModule"] = "6b1f553f5b9e"


@pytest.mark.parametrize("name", BEFORE)
def test_options_added_since_leave_no_trace_in_the_hash_at_their_defaults(name):
    spec = {"class_path": f"tokd_lightning.modules.{name}", "init_args": {}}
    config = {"seed_everything": 0, "model": spec}
    assert config_hash(config).startswith(BEFORE[name])
    for key, value in ADDED.items():
        if key.startswith("model."):
            spec["init_args"] = {key.rpartition(".")[2]: value}
            assert config_hash(config).startswith(BEFORE[name])
    spec["init_args"] = {"tune": "norms"}
    assert not config_hash(config).startswith(BEFORE[name])


@pytest.mark.parametrize("name", ["leave_out", "degrade", "degrade_options", "degrade_for"])
def test_nor_do_those_of_the_data(name):
    given = {name: None}  # as the command line resolves them
    spec = {"class_path": "tokd_lightning.data.ffpp.FFPPDataModule", "init_args": given}
    config = {"seed_everything": 0, "data": spec}
    assert config_hash(config).startswith("ad4e9d6f74c4")  # at commit 046bd3b, without it
    given[name] = "something"
    assert not config_hash(config).startswith("ad4e9d6f74c4")


def test_a_test_finds_the_run_of_a_fit_with_other_batches():
    config = changed(data__init_args__batch_size=4, trainer__precision="bf16-mixed")
    assert run_name(config, EXPERIMENT) != run_name(EXPERIMENT, EXPERIMENT)
    assert run_name(config, EXPERIMENT, EVALUATION) == run_name(EXPERIMENT, EXPERIMENT)


def test_every_other_value_changes_the_hash_and_is_named():
    config = changed(model__init_args__distiller__init_args__dim=512)
    assert config_hash(config) != config_hash(EXPERIMENT)
    assert differences(config, EXPERIMENT) == ["model.init_args.distiller.init_args.dim"]


def test_vanilla_has_no_branches():
    config = changed(
        model__init_args__distiller={"class_path": "tokd_lightning.distillation.Vanilla"}
    )
    assert cell(config).method == "vanilla"
    assert cell(config).branches == "none"


def test_results_are_null_where_not_a_number_and_read_back(tmp_path):
    run = Run(tmp_path / "r")
    assert run.results() is None
    record = RunRecord(metrics={"a": math.nan, "b": 0.5}, versions={"torch": "2"}, seed=3)
    run.write_results(replace(record, other={"list": [math.inf]}))
    content = json.loads((run.folder / "metrics.json").read_text())
    assert (content["metrics"], content["list"]) == ({"a": None, "b": 0.5}, [None])
    read = run.results()
    assert (read.metrics["b"], read.metrics["a"], read.seed) == (0.5, None, 3)
    run.write_results(read)  # what this version does not know is kept
    assert json.loads((run.folder / "metrics.json").read_text()) == content


def test_corrupt_results_are_one_clear_line(tmp_path):
    (tmp_path / "metrics.json").write_text('{"name": ')
    with pytest.raises(TokdError, match=r"metrics\.json cannot be read"):
        Run(tmp_path).results()


def test_an_earlier_run_is_set_aside_never_overwritten(tmp_path):
    run = Run(tmp_path / "r")
    assert run.set_aside() is None
    for expected in ("r.old-1", "r.old-2"):
        run.folder.mkdir()
        assert run.set_aside().name == expected
    assert not run.folder.exists()


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "x.json"
    write_text(path, "old")
    (tmp_path / "file").write_text("")
    with pytest.raises(TokdError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.json", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.json"]


HOLDING = """
import os, sys, time
from pathlib import Path
from tokd_lightning.runs.folder import Run
Run(Path(sys.argv[1])).hold()
if os.fork() == 0:  # as the workers of a loader, which may outlive a killed fit for a moment
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_run_is_held_by_one_process_until_it_dies(tmp_path):
    run = Run(tmp_path / "run")
    run.hold()  # a folder that is not there is nobody's
    assert not run.folder.exists()
    run.folder.mkdir()
    command = [sys.executable, "-c", HOLDING, str(run.folder)]
    pipes = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **pipes) as other:
        pid = int(other.stdout.readline())
        with pytest.raises(TokdError, match=rf"another process \({pid}\): wait for it"):
            run.hold()
        os.kill(pid, signal.SIGKILL)
        other.wait()
        with letting_go():
            run.hold()
            run.hold()
            assert (run.folder / ".lock").read_text() == str(os.getpid())
        assert list(run.folder.iterdir()) == []
        os.killpg(pid, signal.SIGKILL)  # the forked one


def test_a_run_that_is_set_aside_is_held_no_more(tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.hold()
    aside = run.set_aside()
    assert list(aside.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": ', b"\xff\xfe", b"\0", b"3"])
def test_a_damaged_record_of_a_run_is_one_clear_error(tmp_path, content):
    for name, read in (("inputs.json", Run.inputs), ("fit.yaml", Run.config)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TokdError, match=f"{name} cannot be read: .*--rerun"):
            read(Run(tmp_path))
