import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from processes import finish, one_and_two, started
from rank import (
    BATCH,
    SAMPLES,
    frames,
    learners,
    moving,
    overflow,
    rehearse,
    trainer_of,
    validated,
)
from small import NETWORK, floats, furthest, same, snapshot

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parents[1] / "experiments"


@pytest.fixture(scope="module")
def uneven(tiny_ffpp, tmp_path_factory):
    """37 frames to validate on, so that the second process has an empty last batch; 39 to test."""
    root = shutil.copytree(tiny_ffpp, tmp_path_factory.mktemp("uneven") / "ffpp")
    for video, count in (("006", 3), ("008", 1)):
        faces = root / "original_sequences/youtube/c23/faces" / video
        for frame in sorted(faces.iterdir())[:count]:
            frame.unlink()
    return root


@pytest.fixture(scope="module")
def runs(uneven, teacher, tmp_path_factory):
    """What one process ended with, and each of two."""
    out = tmp_path_factory.mktemp("ranks")

    def alone():
        one = rehearse(uneven, teacher, 1)
        return one | {
            "moving": moving(uneven, teacher, 1),
            "overflow": overflow(uneven, teacher, 1),
        }

    return one_and_two(alone, out, "rank.py", uneven, teacher, out, 2)


KINDS = ["student", "teacher", "student in parts", "teacher in parts"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_with_the_whole_batch_learns(runs, kind):
    one, two = runs[0][kind], runs[1][kind]
    assert one["steps"] == two["steps"] == 2 * (SAMPLES // BATCH)
    parts = {"student": ("student", "distiller.project", "distiller.rotation")}
    for part in parts.get(kind.split()[0], ("teacher", "projectors", "auxiliary")):
        ours, theirs = (
            {k: v for k, v in run["state"].items() if k.startswith(part) and v.is_floating_point()}
            for run in (two, one)
        )
        assert ours
        assert furthest(ours, theirs) < 1e-9, part


def test_two_processes_set_the_same_statistics_of_random_projectors_as_one(runs):
    one, two = (
        {k: v for k, v in run["student"]["state"].items() if "teacher_project" in k and "var" in k}
        for run in runs[:2]
    )
    assert one
    assert furthest(two, one) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_both_processes_end_with_the_same_bits(runs, kind):
    _, first, second = runs
    assert same(first[kind]["state"], second[kind]["state"])


def test_where_one_process_is_told_to_end_both_do_and_go_on_bit_for_bit(runs):
    for rank in runs[1:]:
        assert rank["told"]["step"] == SAMPLES // BATCH + 1
        assert same(rank["told"]["resumed"], rank["told"]["whole"])
    assert 0 < float(runs[1]["told"]["whole"]["acc"]) < 1


def test_the_rotations_have_moved(runs):
    for branch in ("rgb", "frequency"):
        r = runs[1]["student"]["state"][f"distiller.rotation.{branch}"]
        assert (r - torch.eye(len(r))).norm() > 0.1


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_every_frame_is_scored_once_and_both_processes_know_all_metrics(runs, kind):
    one, *ranks = (run[kind] for run in runs)
    assert (len(one["val"]), len(one["test"])) == (37, 39)
    for rank in ranks:
        for split in ("val", "test"):
            assert rank[split].keys() == one[split].keys()
            assert rank[split] == pytest.approx(one[split], rel=1e-9)
        assert rank["metrics"] == pytest.approx(one["metrics"], rel=1e-6)
        assert rank["test_metrics"] == pytest.approx(one["test_metrics"], rel=1e-6)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_both_processes_validate_the_network_that_the_first_saves(runs, uneven, teacher, kind):
    first, second = (run["moving"][kind] for run in runs[1:])
    module, trainer = learners(teacher)[kind].double(), trainer_of(1)
    started = snapshot(module, f"{kind}.")
    means = [name for name in started if name.endswith("running_mean")]
    assert means
    network, other = ({name: rank["state"][name] for name in started} for rank in (first, second))
    assert not any(torch.equal(network[name], started[name]) for name in means)
    module.load_state_dict(network, strict=False)
    trainer.validate(module, datamodule=frames(uneven), verbose=False)
    alone = validated(trainer, module)
    for rank in (first, second):
        assert rank["val"] == pytest.approx(alone["val"], rel=1e-9)
        assert rank["metrics"] == pytest.approx(alone["metrics"], rel=1e-6)
    assert same(network, other)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_with_shared_statistics_two_processes_learn_what_one_does(runs, kind):
    one, (first, second) = runs[0]["moving"][kind], (run["synced"][kind] for run in runs[1:])
    ours, theirs = floats(first["state"]), floats(one["state"])
    assert any("running_var" in name for name in ours)
    assert furthest(ours, theirs) < 1e-9
    assert first["val"] == pytest.approx(one["val"], rel=1e-9)
    assert first["norms"] == one["norms"]
    assert same(first["state"], second["state"])
    apart = runs[1]["moving"][kind]["state"]
    assert furthest({k: apart[k] for k in ours}, theirs) > 1e-4


def moved(weights, step):
    return weights[step] - weights[step - 1]


@pytest.mark.parametrize("kind", ["student in parts", "teacher in parts"])
def test_an_overflow_on_one_process_skips_the_step_on_both_alike(runs, kind):
    one, *ranks = (run["overflow"][kind] for run in runs)
    for rank in ranks:
        assert rank["scales"] == [2.0**6, 2.0**5, 2.0**5, 2.0**4, 2.0**4, 2.0**4]
        for step in (2, 4):
            assert torch.equal(rank["weights"][step], rank["weights"][step - 1])
        for step in (1, 3, 5, 6):
            expected = moved(one["weights"], step)
            assert expected.norm() > 0
            assert (moved(rank["weights"], step) - expected).norm() < 0.02 * expected.norm()
        assert rank.get("turned") == ([4, 4] if kind.startswith("student") else None)
    for ours, theirs in zip(*(rank["weights"] for rank in ranks), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["teacher", "tokd"])
def test_tokd_fits_on_two_processes_and_writes_its_results_once(tiny_ffpp, teacher, tmp_path, kind):
    network = {
        "teacher": ["--model.backbone", NETWORK, "--model.width", "16"],
        "tokd": [
            *("--model.student", NETWORK, "--model.teacher", str(teacher)),
            *("--model.distiller.width", "16", "--model.distiller.dim", "64"),
        ],
    }
    command = [
        str(Path(sys.executable).with_name("tokd")),
        *("fit", "--config", str(EXPERIMENTS / f"demo_{kind}.yaml"), *network[kind]),
        *("--runs", str(tmp_path), "--log", "none", "--data.root", str(tiny_ffpp)),
        *("--data.size", "48", "--data.crop", "40", "--data.num_workers", "0"),
        *("--data.batch_size", "12", "--data.samples_per_epoch", "36"),
        *("--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"),
    ]
    said = finish([started(command)])
    (file,) = tmp_path.rglob("metrics.json")
    results = json.loads(file.read_text())
    assert results["status"] == "finished", said[-4000:]
    assert results["device"] == "2 x cpu"
    assert 0 <= results["metrics"]["val/frame/auc"] <= 1
    for name in ("best", "last"):
        checkpoint = torch.load(file.parent / f"checkpoints/{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] in (3, 6)
    with (file.parent / "metrics.csv").open(newline="") as table:
        steps = [int(row["step"]) for row in csv.DictReader(table) if row["train/loss"]]
    assert steps == list(range(6))
    assert said.count("epoch 2/2") == 1
