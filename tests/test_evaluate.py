"""`tokd evaluate`: what it computes, and when it computes again."""

import json
import shutil

import pandas as pd
import pytest
from evaluated import LONG, SHORT, bright_ffpp, brighten, fit_and_test
from test_cli import TINY_STUDENT, TINY_TEACHER

from tokd_lightning.cli import main
from tokd_lightning.data.target import parse_target
from tokd_lightning.evaluation import Options, evaluate, open_run
from tokd_lightning.runs.folder import Run


@pytest.fixture(scope="module")
def ffpp(tmp_path_factory):
    return bright_ffpp(tmp_path_factory.mktemp("ffpp"))


@pytest.fixture(scope="module")
def vanilla(ffpp, tmp_path_factory):
    """A student that finds what is bright fake."""
    runs = tmp_path_factory.mktemp("runs")
    return fit_and_test("demo_vanilla", ffpp, runs, *TINY_STUDENT, *LONG)


@pytest.fixture(scope="module")
def teacher(ffpp, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return fit_and_test("demo_teacher", ffpp, runs, *TINY_TEACHER, *SHORT)


@pytest.fixture
def student(vanilla, tmp_path):
    """A run that a test may write into."""
    return shutil.copytree(vanilla, tmp_path / vanilla.name)


def test_a_run_on_ffpp_is_evaluated_on_celeb_df_whose_list_calls_real_1(student, celebdf, capsys):
    before = (student / "metrics.json").read_bytes()
    assert main(["evaluate", str(student), "--on", f"celebdf:{celebdf}"]) == 0
    out = capsys.readouterr().out
    assert "16 frames" in out
    assert "8 videos" in out
    assert student.name in out
    assert max(map(len, out.splitlines())) <= 80
    assert (student / "metrics.json").read_bytes() == before

    place = student / "evaluations" / "celebdf-original"
    assert {p.name for p in place.iterdir()} == {
        "evaluation.json", "frames.csv", "videos.csv", "methods.csv", "roc.png", "reliability.png",
    }  # fmt: skip
    assert (place / "roc.png").read_bytes().startswith(b"\x89PNG")
    frames, videos = (pd.read_csv(place / f"{level}.csv") for level in ("frames", "videos"))
    fake = frames["path"].str.startswith("Celeb-synthesis/")
    assert (frames["label"] == fake).all()
    assert frames.loc[fake, "p_fake"].mean() > frames.loc[~fake, "p_fake"].mean() + 0.1
    assert len(videos) == 8

    record = Run(student).evaluations()["celebdf-original"]
    assert record["metrics"]["test/frame/auc"] > 0.95
    assert record["metrics"]["test/video/auc"] > 0.95
    assert record["metrics"]["test/video/eer"] < 0.1
    assert record["metrics"]["test/frame/majority"] == pytest.approx(10 / 16)
    accuracy = ((frames["p_fake"] > 0.5) == frames["label"]).mean()
    assert record["metrics"]["test/frame/acc"] == pytest.approx(accuracy)
    assert record["counts"] == {
        "frames": 16, "real_frames": 6, "fake_frames": 10,
        "videos": 8, "real_videos": 3, "fake_videos": 5,
        "skipped": 0, "short_videos": 8, "videos_without_frames": 0,
    }  # fmt: skip
    assert record["trained_on"] == "synthetic-c23"
    assert set(record["hashes"]) == {"data", "labels", "checkpoint", "source"}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("what", ["vanilla", "teacher"])
def test_on_its_own_data_a_run_scores_bit_for_bit_what_its_test_scored(
    what, ffpp, tmp_path, request
):
    tested = request.getfixturevalue(what)
    run = shutil.copytree(tested, tmp_path / tested.name)
    best = run / "checkpoints" / "best.ckpt"
    assert main(["evaluate", str(best), "--on", f"synthetic=ffpp-c23:{ffpp}"]) == 0
    for level in ("frames", "videos", "methods"):
        ours = run / "evaluations" / "synthetic-c23" / f"{level}.csv"
        assert ours.read_bytes() == (run / f"test_{level}.csv").read_bytes()
    record, results = Run(run).evaluations()["synthetic-c23"], Run(run).results()
    tested = {k: v for k, v in results.metrics.items() if k.startswith("test/")}
    assert record["metrics"] == tested
    assert record["cell"] == results.cell._asdict()


def test_the_validation_split_has_a_folder_of_its_own(student, ffpp):
    on = ["--on", f"ffpp-c23:{ffpp}", "--split", "val"]
    assert main(["evaluate", str(student), *on]) == 0
    record = Run(student).evaluations()["ffpp-c23-val"]
    fitted = Run(student).results().metrics
    for metric in ("frame/auc", "video/acc"):
        assert record["metrics"][f"val/{metric}"] == pytest.approx(fitted[f"val/{metric}"])


@pytest.mark.slow
def test_an_equal_evaluation_is_reused_and_force_repeats_it(student, celebdf, capsys):
    command = ["evaluate", str(student), "--on", f"celebdf:{celebdf}"]
    assert main(command) == 0
    place = student / "evaluations" / "celebdf-original"
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.iterdir()}
    capsys.readouterr()
    assert main([*command, "--batch-size", "4", "--on-error", "skip"]) == 0
    out = capsys.readouterr().out
    assert "evaluated already" in out
    assert "8 videos" in out
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.iterdir()}
    assert main([*command, "--force"]) == 0
    assert "evaluated already" not in capsys.readouterr().out
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[p][1] > before[p][1] for p in after)
    assert all(after[p][0] == before[p][0] for p in after if p.suffix == ".csv")


@pytest.mark.slow
def test_what_differs_from_an_earlier_evaluation_is_named(student, celebdf, tmp_path, capsys):
    root = shutil.copytree(celebdf, tmp_path / "celebdf")
    command = ["evaluate", str(student), "--on", f"celebdf:{root}"]
    assert main(command) == 0
    name = student / "evaluations" / "celebdf-original" / "evaluation.json"
    before = name.read_bytes()

    assert main([*command, "--frames", "1"]) == 2
    assert "frames_per_video 8 instead of 1: --force" in capsys.readouterr().err
    brighten(root, "Celeb-real/id0_0000")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "other frames: --force" in error
    assert error.count("\n") == 1
    assert name.read_bytes() == before
    assert main([*command, "--update"]) == 0
    assert "evaluated already" not in capsys.readouterr().out
    assert main([*command, "--update"]) == 0
    assert "evaluated already" in capsys.readouterr().out
    shutil.copy(student / "checkpoints" / "last.ckpt", student / "checkpoints" / "best.ckpt")
    assert main(command) == 0  # the only epoch is best and last
    assert main([*command, "--precision", "bf16-mixed"]) == 2
    assert "precision 32-true instead of bf16-mixed" in capsys.readouterr().err


def test_other_weights_are_noticed(student, celebdf, capsys):
    command = ["evaluate", str(student), "--on", f"celebdf:{celebdf}"]
    assert main(command) == 0
    path = student / "evaluations" / "celebdf-original" / "evaluation.json"
    record = json.loads(path.read_text())
    record["hashes"]["checkpoint"] = "0" * 64
    path.write_text(json.dumps(record))
    assert main(command) == 2
    assert "other weights: --force" in capsys.readouterr().err


@pytest.mark.slow
def test_a_list_of_one_s_own_is_evaluated_and_its_changed_labels_noticed(
    student, celebdf, tmp_path, capsys
):
    parts = {"Celeb-real": "real", "Celeb-synthesis": "swap"}
    files = [file for part in parts for file in sorted((celebdf / part).rglob("*.png"))[:12]]
    paths = [file.relative_to(celebdf).as_posix() for file in files]
    lines = [f"{path},{parts[path.split('/')[0]]},test" for path in paths]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,method,split", *lines]))
    command = ["evaluate", str(student), "--on", f"wild=own:{table}", "--root", str(celebdf)]
    assert main(command) == 0
    record = Run(student).evaluations()["wild-unknown"]
    picture = student / "evaluations" / "wild-unknown" / "roc.png"
    assert picture.is_file()
    assert record["metrics"]["test/frame/auc"] > 0.95
    assert record["counts"]["frames"] == 24
    table.write_text(table.read_text().replace(",swap,", ",real,"))
    assert main(command) == 2
    assert "other labels: --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0  # real frames alone
    record = Run(student).evaluations()["wild-unknown"]
    assert record["metrics"]["test/frame/auc"] is None
    assert record["metrics"]["test/frame/majority"] == 1
    assert not picture.exists()
    assert "–" in capsys.readouterr().out


@pytest.mark.slow
def test_json_is_for_programs(student, celebdf, ffpp, capsys):
    on = ["--on", f"celebdf:{celebdf}", "--on", f"ffpp-c23:{ffpp}"]
    best = student / "checkpoints" / "best.ckpt"  # the same run
    assert main(["evaluate", str(student), str(best), *on, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [record["data"]["name"] for record in told] == ["celebdf", "ffpp"]
    found = Run(student).evaluations()
    assert told == [found["celebdf-original"], found["ffpp-c23"]]


def test_the_function_does_what_the_command_does(student, celebdf):
    trained, target = open_run(student), parse_target(f"celebdf:{celebdf}")
    said = []
    record = evaluate(trained, target, Options(frames=1), say=said.append)
    assert record == Run(student).evaluations()["celebdf-original"]
    assert record["counts"]["frames"] == 8
    assert record["options"]["frames_per_video"] == 1
    assert len([line for line in said if not line.startswith("  ")]) == 1
