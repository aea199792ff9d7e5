"""`tokd evaluate`: what goes wrong is one line, and nothing is left half-written."""

import shutil

import pytest
import torch

from tokd_lightning.cli import main
from tokd_lightning.errors import TokdError
from tokd_lightning.runs.folder import Run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def fails(arguments, says, capsys):
    assert main(["evaluate", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tokd: ")
    assert error.count("\n") == 1
    assert says in error
    return error


def no_folder(run):
    shutil.rmtree(run)


def no_run(run):
    (run / "fit.yaml").unlink()


def unfinished(run):
    (run / "checkpoints" / "best.ckpt").unlink()


def broken_checkpoint(run):
    (run / "checkpoints" / "best.ckpt").write_text("none")


def other_network(run):
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["tokd"]["network"]["backbone"] = "test_vit_none"
    torch.save(checkpoint, path)


def other_weights(run):
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["state_dict"]["student.classifier.bias"]
    torch.save(checkpoint, path)


def broken_config(run):
    (run / "fit.yaml").write_text("trainer: [")


def other_config(run):
    text = (run / "fit.yaml").read_text()
    (run / "fit.yaml").write_text(text.replace("mean: 0.3", "mean: 0.5"))


def not_writable(run):
    (run / "evaluations").write_text("in the way")


def corrupt_record(run):
    place = run / "evaluations" / "celebdf-original"
    place.mkdir(parents=True)
    (place / "evaluation.json").write_text('{"metrics": ')


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_folder, "does not exist: name folders that tokd fit made"),
        (no_run, "is not a run folder"),
        (unfinished, "has no checkpoints/best.ckpt yet: tokd fit --config"),
        (broken_checkpoint, "cannot be read as a checkpoint"),
        (other_network, "test_vit_none"),
        (other_weights, "do not fit the network it records"),
        (broken_config, "fit.yaml cannot be read: remove it, or fit with --rerun"),
        (other_config, "trained on images of mean 0.3 instead of 0.5"),
        (not_writable, "cannot be written"),
        (corrupt_record, "cannot be read: remove it, or tokd evaluate with --force"),
    ],
)
def test_a_bad_run_is_one_line(spoil, says, run, celebdf, capsys):
    spoil(run)
    before = set(run.rglob("*"))
    fails([run, "--on", f"celebdf:{celebdf}"], says, capsys)
    assert set(run.rglob("*")) == before


def test_a_corrupt_record_is_replaced_by_force(run, celebdf, capsys):
    corrupt_record(run)
    with pytest.raises(TokdError, match=r"evaluation\.json cannot be read"):
        Run(run).evaluations()
    assert main(["evaluate", str(run), "--on", f"celebdf:{celebdf}", "--force"]) == 0
    assert Run(run).evaluations()["celebdf-original"]["counts"]["frames"] == 16


def empty_folder(root):
    shutil.rmtree(root)
    root.mkdir()


def no_list(root):
    (root / "List_of_testing_videos.txt").unlink()


def no_videos(root):
    shutil.rmtree(root / "Celeb-synthesis")


def no_frames(root):
    for part in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
        for frame in (root / part).rglob("*.png"):
            frame.unlink()


def no_image(root):
    next((root / "Celeb-real" / "id0_0000").iterdir()).write_text("no image")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (empty_folder, "Celeb-real"),
        (no_list, "List_of_testing_videos.txt there"),
        (no_videos, "Celeb-synthesis"),
        (no_frames, "none holds an image"),
        (no_image, "--on-error skip"),
    ],
)
def test_bad_data_are_one_line_and_leave_nothing_behind(
    spoil, says, run, celebdf, tmp_path, capsys
):
    root = shutil.copytree(celebdf, tmp_path / "data")
    spoil(root)
    error = fails([run, "--on", f"celebdf:{root}"], says, capsys)
    assert "--data." not in error
    assert not (run / "evaluations").exists()


def test_an_unreadable_frame_is_skipped_and_counted(run, celebdf, tmp_path, capsys):
    root = shutil.copytree(celebdf, tmp_path / "data")
    no_image(root)
    command = ["evaluate", str(run), "--on", f"celebdf:{root}"]
    assert main([*command, "--on-error", "skip"]) == 0
    counts = Run(run).evaluations()["celebdf-original"]["counts"]
    assert (counts["skipped"], counts["frames"], counts["videos"]) == (1, 15, 8)
    capsys.readouterr()
    fails(command[1:], "on_error skip instead of fail", capsys)


def test_data_without_the_split_are_one_line(run, tiny_ffpp, tmp_path, capsys):
    [frame] = (tiny_ffpp / "original_sequences/youtube/c23/faces/000").glob("0000.png")
    shutil.copy(frame, tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,method,split\na.png,real,train\n")
    fails([run, "--on", f"own:{tmp_path}/list.csv"], "no frames in the split test", capsys)
    assert not (run / "evaluations").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--on", "{data}"], "[NAME=]KIND[-QUALITY]:PATH"),
        (["--on", "celebdf"], "it is [NAME=]KIND[-QUALITY]:PATH"),
        (["--on", "celebdf:"], "it is [NAME=]KIND[-QUALITY]:PATH"),
        (["--on", "celebdf-:{data}"], "it is [NAME=]KIND[-QUALITY]:PATH"),
        (["--on", "a/b=celebdf:{data}"], "it is [NAME=]KIND[-QUALITY]:PATH"),
        (["--on", "photos:{data}"], "no data set of the kind 'photos'"),
        (["--on", "celebdf:{data}/nowhere"], "there is no"),
        (["--on", "celebdf:{data}/List_of_testing_videos.txt"], "is not a folder"),
        (["--on", "own:{data}/List_of_testing_videos.txt"], "a .csv or a .json"),
        (["--on", "own:{data}"], "--on own:FILE"),
        (["--on", "ffpp-c40:{data}"], "original_sequences"),
        (["--on", "celebdf-c40:{data}"], "c40"),
        (["--on", "celebdf:{data}", "--on", "celebdf:{data}/Celeb-real"], "are both called"),
        ([], "--on"),
        (["--on", "celebdf:{data}", "--split", "train"], "--split"),
        (["--on", "celebdf:{data}", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["--on", "celebdf:{data}", "--frames", "0"], "--frames must be at least 1"),
        (["--on", "celebdf:{data}", "--workers", "-1"], "--workers must be at least 0"),
        (["--on", "celebdf:{data}", "--root", "/nowhere"], "--root /nowhere"),
        (["--on", "celebdf:{data}", "--device", "gpu"], "no GPU was found: leave --device"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case asks for a GPU that is not there")
def test_a_mistake_is_one_line(options, says, run, celebdf, capsys):
    given = [option.format(data=celebdf) for option in options]
    assert "--data." not in fails([run, *given], says, capsys)
    assert not (run / "evaluations").exists()


def test_only_the_selected_checkpoint_is_taken(run, celebdf, capsys):
    last = run / "checkpoints" / "last.ckpt"
    fails([last, "--on", f"celebdf:{celebdf}"], "the checkpoints/best.ckpt in it", capsys)


@pytest.mark.slow
def test_a_failing_run_is_passed_over(run, celebdf, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    command = ["evaluate", str(empty), str(run), "--on", f"celebdf:{celebdf}"]
    assert main([*command, "--on", f"ffpp:{celebdf}"]) == 2
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"tokd: {empty} is not a run folder")
    assert lines[1].startswith(f"tokd: {run} on ffpp-c40: ")
    assert "16 frames" in told.out
    assert list(Run(run).evaluations()) == ["celebdf-original"]
