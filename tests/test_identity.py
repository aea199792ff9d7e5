"""What a result was made from: other rows, weights, code and options are noticed and named."""

import hashlib
import json
import shutil

import pandas as pd
import pytest
import torch
from test_cli import ROOT
from trees import write_splits

from tokd_lightning.cli import main
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.rows import fold_hash, row_hashes, whole_hash
from tokd_lightning.errors import TokdError
from tokd_lightning.modules.trained import TrainedModule
from tokd_lightning.runs.provenance import belongs, changed_data, comparable_data
from tokd_lightning.training import checks
from tokd_lightning.training import cli as training
from tokd_lightning.training.callbacks.resume import checkpoint_to_resume
from tokd_lightning.training.checks import tell_of_teacher

TINY = [
    *(f"--config={ROOT}/experiments/ffpp_res18t.yaml", "--model.distiller=Vanilla"),
    *("--model.student=test_resnet", "--data.quality=c23", "--data.size=64", "--data.crop=48"),
    *("--data.batch_size=8", "--data.num_workers=0", "--data.samples_per_epoch=32"),
    *("--data.balance=half_batch", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    *("--trainer.val_check_interval=2", "--log=none", "--pictures=0"),
]


def tokd(command, *options):
    return main([command, *TINY, *map(str, options)])


@pytest.fixture(scope="module")
def whole(tiny_ffpp, tmp_path_factory):
    """A run of four batches with two validations, tested; a copy of its split files beside it."""
    place = tmp_path_factory.mktemp("identity")
    shutil.copytree(tiny_ffpp / "splits", place / "splits")
    where = ("--data.root", tiny_ffpp, "--runs", place / "runs", "--data.splits", place / "splits")
    assert tokd("fit", *where) == 0
    assert tokd("test", *where) == 0
    return place


@pytest.fixture
def made(whole, tiny_ffpp, tmp_path):
    """A copy of it to change, and the options that name it."""
    place = shutil.copytree(whole, tmp_path / "here")
    [folder] = (place / "runs").iterdir()
    where = ("--data.root", tiny_ffpp, "--runs", place / "runs", "--data.splits", place / "splits")
    return folder, where, place / "splits"


def read(folder):
    return json.loads((folder / "metrics.json").read_text())


def untested(folder):
    results = read(folder)
    for key in [key for key in results["metrics"] if key.startswith("test/")]:
        del results["metrics"][key]
    (folder / "metrics.json").write_text(json.dumps(results))
    return results


# The data


def test_each_exchange_is_named_and_only_it(tiny_ffpp):
    manifest = scan_ffpp(tiny_ffpp, "c23").manifest
    test, train = manifest["split"] == "test", manifest["split"] == "train"
    swapped = manifest["split"].mask(test, "train").mask(train, "test")
    changes = {
        "other splits": {"split": swapped},
        "other labels": {"label": 1 - manifest["label"]},
        "other methods": {"method": manifest["method"].str.upper()},
        "other videos": {"video": manifest["video"].str[:2]},
        "other frame numbers": {"frame": manifest["frame"] + 1},
        "other pairs": {"teacher_path": manifest["path"]},
    }

    def hashes(rows):
        parts = row_hashes(rows, tiny_ffpp)
        return {"data": whole_hash(parts), "rows": parts}

    plain = hashes(manifest)
    assert changed_data(plain, hashes(manifest.sample(frac=1, random_state=0))) == ""
    for said, columns in changes.items():
        assert changed_data(plain, hashes(manifest.assign(**columns))) == said
    both = manifest.assign(**changes["other splits"], **changes["other labels"])
    assert changed_data(plain, hashes(both)) == "other splits, other labels"
    assert changed_data(plain, hashes(manifest.iloc[1:])) == "other frames"
    assert plain["rows"]["order"] != hashes(manifest.iloc[::-1])["rows"]["order"]
    assert fold_hash(manifest) == fold_hash(manifest.iloc[::-1].assign(quality="c40"))
    assert fold_hash(manifest) != fold_hash(manifest.assign(split=swapped))


def test_masks_that_only_a_fit_reads_make_no_other_data():
    parts = {"files": "f", "paths": "p", "order": "o", "splits": "s"}
    read = {"data": "fit", "rows": parts | {"masks": "m"}}
    unread = {"data": "test", "rows": parts | {"order": "other"}}
    assert changed_data(read, unread) == changed_data(unread, read) == ""
    assert changed_data(read, {"data": "x", "rows": read["rows"] | {"masks": "n"}}) == "other masks"
    changed = {"data": "x", "rows": parts | {"splits": "t"}}
    assert changed_data(read, changed) == "other splits"
    first, second, third = comparable_data([read, unread, changed])
    assert first == second != third


def test_runs_of_earlier_versions_are_compared_by_their_files_alone():
    old, parts = {"data": "f"}, {"files": "f", "paths": "p", "splits": "s"}
    new = {"data": "whole", "rows": parts}
    other = {"data": "another", "rows": parts | {"splits": "t"}}
    assert changed_data(old, new) == changed_data(new, old) == ""
    assert changed_data({"data": "g"}, new) == "other frames"
    assert changed_data(new, other) == "other splits"
    assert comparable_data([new, other]) == ["whole", "another"]
    assert comparable_data([new, other, old]) == ["f", "f", "f"]
    assert comparable_data([old, {"data": "g"}]) == ["f", "g"]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("moment", ["finished", "interrupted"])
def test_a_fit_on_other_splits_is_refused_and_says_so(made, moment, capsys):
    folder, where, splits = made
    if moment == "interrupted":
        (folder / "metrics.json").unlink()
    write_splits(
        splits, train=[["000", "001"], ["002", "003"], ["008", "009"]], test=[["004", "005"]]
    )
    assert tokd("fit", *where, "--reuse") == 2
    said = capsys.readouterr().err
    assert "was trained on different data (other splits)" in said


@pytest.mark.slow
def test_a_test_on_other_splits_leaves_metrics_json(made, capsys):
    folder, where, splits = made
    before = untested(folder)
    write_splits(
        splits, train=[["000", "001"], ["002", "003"], ["008", "009"]], test=[["004", "005"]]
    )
    assert tokd("test", *where) == 0
    assert "metrics.json is left as it is: other splits" in capsys.readouterr().out
    assert read(folder) == before


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_tested_and_what_it_lacks_is_said(made, caplog):
    folder, where, _ = made
    untested(folder)
    inputs = json.loads((folder / "inputs.json").read_text())
    (folder / "inputs.json").write_text(
        json.dumps({"data": inputs["rows"]["files"], "recipe": inputs["recipe"]})
    )
    assert tokd("test", *where) == 0
    assert "did not record splits, labels and videos" in caplog.text
    assert "test/frame/acc" in read(folder)["metrics"]


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data.size=56"], r"measured with another data.size (56, not 64)"),
        (["--trainer.limit_test_batches=1"], "a part of the test split"),
    ],
)
def test_a_test_that_measures_something_else_leaves_metrics_json(made, options, says, capsys):
    folder, where, _ = made
    before = untested(folder)
    config = [f"--config={folder}/fit.yaml", *where[:2], *options]
    assert main(["test", *map(str, config)]) == 0
    assert f"metrics.json is left as it is: {says}" in capsys.readouterr().out
    assert read(folder) == before


# The weights


def test_results_name_the_weights_of_best_ckpt(made):
    folder, *_ = made
    state = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].numpy().tobytes())
    results = read(folder)
    assert results["hashes"]["weights"] == results["tested"]["weights"] == digest.hexdigest()
    assert belongs({"hashes": {"checkpoint": digest.hexdigest()}}, digest.hexdigest()) is True
    assert belongs({"hashes": {"checkpoint": "other"}}, digest.hexdigest()) is False
    for unknown in ("", None):  # a student of an earlier version, and a run without results
        assert belongs({"hashes": {"checkpoint": "other"}}, unknown) is None


@pytest.mark.slow
def test_a_test_of_other_weights_leaves_metrics_json(made, capsys):
    folder, where, _ = made
    before = untested(folder)
    path = folder / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).add_(1)
    torch.save(checkpoint, path)
    assert tokd("test", *where) == 0
    assert "left as it is: best.ckpt has other weights" in capsys.readouterr().out
    assert read(folder) == before


def test_the_validation_of_best_ckpt_is_its_own(made, tiny_ffpp):
    """Two validations an epoch: the numbers are those of the checkpoint, scored again."""
    folder, *_ = made
    results = read(folder)
    curves = pd.read_csv(folder / "metrics.csv").dropna(subset=["val/loss"])
    assert len(curves) == 2
    model = TrainedModule(folder / "checkpoints/best.ckpt")
    data = training.ffpp.FFPPDataModule(
        tiny_ffpp, quality="c23", size=64, crop=48, batch_size=8, num_workers=0
    )
    trainer = training.pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    [scored] = trainer.validate(model, datamodule=data, verbose=False)
    for key, value in scored.items():
        assert results["metrics"][key] == pytest.approx(value, abs=1e-6, nan_ok=True), key
    best = curves.sort_values(["val/frame/acc", "val/frame/auc"]).iloc[-1]
    assert results["selected"]["step"] == best["step"] + 1


# The code, and the time


def resumed(folder, where, monkeypatch, seconds=None, code=None):
    """Finish a run once more that was interrupted after its last checkpoint."""
    (folder / "metrics.json").unlink()
    if seconds is not None:
        path = folder / "checkpoints/last.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        [state] = [s for s in checkpoint["callbacks"].values() if "seconds" in s]
        state["seconds"] = seconds
        torch.save(checkpoint, path)
    if code:
        monkeypatch.setattr(checks, "source_hash", lambda: code)
    assert tokd("fit", *where) == 0
    return read(folder)


@pytest.mark.slow
def test_a_run_resumed_under_other_code_names_both_and_says_so(made, monkeypatch):
    folder, where, _ = made
    before = read(folder)
    assert before["hashes"]["sources"] == [before["hashes"]["source"]]
    with pytest.warns(UserWarning, match="was started with code .* and resumes with abababab"):
        results = resumed(folder, where, monkeypatch, seconds=4000.0, code="ab" * 32)
    assert results["hashes"]["sources"] == [before["hashes"]["source"], "ab" * 32]
    assert 4000 <= results["seconds"]["fit"] < 4300
    assert results["metrics"] == {k: v for k, v in before["metrics"].items() if "val/" in k}


# The teacher


def test_a_teacher_of_other_data_or_another_fold_is_announced(tiny_ffpp, tmp_path, recwarn, caplog):
    def module(splits):
        return training.ffpp.FFPPDataModule(tiny_ffpp, quality="c23", splits=splits)

    write_splits(
        tmp_path,
        train=[["000", "001"], ["002", "003"], ["008", "009"]],
        val=[["006", "007"]],
        test=[["004", "005"]],
    )
    data, other = module(tiny_ffpp / "splits"), module(tmp_path)
    for header, said in (
        ({"data": "ffpp-c23", "fold": data.fold_hash()}, []),
        ({"data": "ffpp-c40", "fold": data.fold_hash()}, ["trained on ffpp-c40"]),
        ({"data": "celebdf-original", "fold": "x"}, ["trained on celebdf-original"]),
        ({"data": "ffpp-c23", "fold": other.fold_hash()}, ["other splits or videos"]),
    ):
        recwarn.clear()
        tell_of_teacher(header, data)
        told = [str(warning.message) for warning in recwarn]
        assert len(told) == len(said)
        assert all(words in told[0] for words in said)
    assert "does not say its splits" not in caplog.text
    tell_of_teacher({"data": "ffpp-c23"}, data)  # of an earlier version
    assert "does not say its splits" in caplog.text


# Checkpoints that a disk has lost


@pytest.mark.slow
def test_a_damaged_last_ckpt_is_told_of_and_the_one_before_is_taken(made, caplog, capsys):
    folder, where, _ = made
    last, before = folder / "checkpoints/last.ckpt", read(folder)
    whole_file = last.read_bytes()
    (folder / "metrics.json").unlink()
    for broken in (b"", b"not a checkpoint", whole_file[: len(whole_file) // 2]):
        last.write_bytes(broken)
        with pytest.raises(TokdError, match=r"last.ckpt is damaged .* --rerun"):
            checkpoint_to_resume(last)
    assert tokd("fit", *where) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "last.ckpt is damaged (cut short" in error
    last.with_name("previous.ckpt").write_bytes(whole_file)
    assert tokd("fit", *where) == 0
    assert "from previous.ckpt, as last.ckpt is damaged" in caplog.text
    assert read(folder)["metrics"].items() <= before["metrics"].items()
    assert sorted(p.name for p in last.parent.iterdir()) == [
        "best.ckpt", "last.ckpt", "last.damaged.ckpt",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_best_ckpt_that_is_gone_is_one_line(made, capsys):
    folder, where, _ = made
    (folder / "metrics.json").unlink()
    (folder / "checkpoints/best.ckpt").unlink()
    assert tokd("fit", *where) == 2
    assert "best.ckpt is missing, so that the run cannot go on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_moved_run_that_is_resumed_ends_as_it_was(made, monkeypatch):
    folder, where, _ = made
    before = read(folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    results = resumed(moved, [*where, "--name=elsewhere"], monkeypatch)
    assert results["metrics"].items() <= before["metrics"].items()
    assert results["hashes"]["weights"] == before["hashes"]["weights"]


@pytest.mark.slow
def test_a_run_that_ends_before_a_validation_says_one_line(tiny_ffpp, tmp_path, capsys, recwarn):
    options = ("--data.root", tiny_ffpp, "--runs", tmp_path, "--trainer.max_steps=1")
    assert tokd("fit", *options) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not [w for w in recwarn if "could not find the monitored key" in str(w.message)]
