"""`tokd evaluate --robustness` and `--details`: what an evaluation says beyond the paper."""

import json
import shutil

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tokd_lightning.cli import main
from tokd_lightning.data import perturbations
from tokd_lightning.data.perturbations import PERTURBATIONS, Perturbation
from tokd_lightning.evaluation import (
    reliability,
    robustness,
    robustness_pictures,
    roc,
)
from tokd_lightning.metrics.classification import binary_metrics, video_table
from tokd_lightning.runs.folder import Run

NAME = "celebdf-original"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def command(run, celebdf):
    return ["evaluate", str(run), "--on", f"celebdf:{celebdf}"]


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures that take no time."""
    for module, names in {
        robustness_pictures: ("robustness_png", "perturbations_png"),
        reliability: ("reliability_png",),
        roc: ("roc_png",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda *_: b"drawn")


def measured(run):
    return Run(run).evaluation(NAME, "robustness")


@pytest.mark.slow
def test_curves_are_those_of_the_scores_that_are_kept(run, command, capsys):
    assert main([*command, "--robustness", "occlusion,jpeg"]) == 0
    out = capsys.readouterr().out
    assert "JPEG (1 of 2)" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80  # the last names a file
    place = run / "evaluations" / NAME
    for picture in ("robustness.png", "perturbations.png", "reliability.png"):
        with Image.open(place / picture) as image:
            assert min(image.size) > 300

    record, evaluation = measured(run), Run(run).evaluation(NAME)
    assert list(record["perturbations"]) == ["jpeg", "occlusion"]
    assert record["hashes"] == evaluation["hashes"]
    assert record["options"] == evaluation["options"]
    for level in ("frame", "video"):
        clean = {f"test/{level}/{key}": value for key, value in record["clean"][level].items()}
        assert clean.pop(f"test/{level}/n") == evaluation["counts"][f"{level}s"]
        assert clean.items() <= evaluation["metrics"].items()
    table = pd.read_csv(place / "robustness.csv")
    assert len(table) == 2 + 2 * 5 * 2
    for name, column in (("jpeg", "p_fake_5"), ("occlusion", "p_fake_2")):
        scores = pd.read_csv(place / "robustness" / f"{name}.csv").rename(
            columns={column: "p_fake"}
        )
        for level, rows in {"frame": scores, "video": video_table(scores)}.items():
            metrics = binary_metrics(rows["label"].to_numpy(), rows["p_fake"].to_numpy())
            [row] = table[
                (table["perturbation"] == name)
                & (table["strength"] == int(column[-1]))
                & (table["level"] == level)
            ].to_dict("records")
            assert row["value"] == PERTURBATIONS[name].values[int(column[-1]) - 1]
            assert row["n"] == len(rows)
            for metric in ("auc", "eer", "acc", "balanced_acc"):
                assert row[metric] == pytest.approx(metrics[metric], abs=1e-6)
    assert f"{100 * record['perturbations']['jpeg']['frame'][4]['auc']:.2f}" in out


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_scores_depend_neither_on_the_batch_nor_on_workers(run, command):
    given = [*command, "--robustness", "noise"]
    assert main([*given, "--batch-size", "16"]) == 0
    file = run / "evaluations" / NAME / "robustness" / "noise.csv"
    before = pd.read_csv(file)
    assert main([*given, "--force", "--batch-size", "3", "--workers", "1"]) == 0
    after = pd.read_csv(file)
    assert (before["path"] == after["path"]).all()
    scores = [table.filter(like="p_fake") for table in (before, after)]
    np.testing.assert_allclose(*scores, atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_a_perturbation_that_does_nothing_scores_bit_for_bit_the_clean_frames(
    run, command, monkeypatch
):
    nothing = Perturbation(
        "None", "", (1, 2, 3, 4, 5), lambda x, values, _: iter([x] * len(values))
    )
    monkeypatch.setitem(perturbations.PERTURBATIONS, "nothing", nothing)
    assert main([*command, "--robustness", "nothing"]) == 0
    place = run / "evaluations" / NAME
    clean = pd.read_csv(place / "frames.csv")
    same = pd.read_csv(place / "robustness" / "nothing.csv")
    assert (clean["path"] == same["path"]).all()
    for strength in range(1, 6):
        assert (clean["p_fake"] == same[f"p_fake_{strength}"]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_what_is_finished_is_kept_when_it_is_killed(run, command, monkeypatch, capsys):
    score, seen = robustness.score, []

    def killed(module, *others):
        seen.append(module.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return score(module, *others)

    monkeypatch.setattr(robustness, "score", killed)
    given = [*command, "--robustness", "jpeg,contrast,resize"]
    assert main(given) == 130
    assert list(measured(run)["perturbations"]) == ["jpeg"]
    kept = (run / "evaluations" / NAME / "robustness" / "jpeg.csv").stat().st_mtime_ns
    assert main(given) == 0
    assert seen == ["jpeg", "resize", "resize", "contrast"]
    assert list(measured(run)["perturbations"]) == ["jpeg", "resize", "contrast"]
    capsys.readouterr()
    assert main(given) == 0
    assert "perturbed already" in capsys.readouterr().out
    assert main([*command, "--robustness", "contrast", "--force"]) == 0
    assert seen[4:] == ["contrast"]
    assert list(measured(run)["perturbations"]) == ["jpeg", "resize", "contrast"]
    assert (run / "evaluations" / NAME / "robustness" / "jpeg.csv").stat().st_mtime_ns == kept


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_what_differs_from_an_earlier_measurement_is_named(run, command, capsys, monkeypatch):
    assert main([*command, "--robustness", "jpeg,resize"]) == 0
    assert main([*command, "--frames", "1", "--update"]) == 0  # without its curves
    capsys.readouterr()
    again = [*command, "--frames", "1", "--robustness", "jpeg"]
    assert main(again) == 2
    error = capsys.readouterr().err
    assert (
        "robustness.json was made with other frames, frames_per_video 8 instead of 1: --update"
        in error
    )
    assert error.count("\n") == 1
    assert main([*again, "--update"]) == 0
    assert list(measured(run)["perturbations"]) == ["jpeg"]
    assert measured(run)["perturbations"]["jpeg"]["frame"][0]["n"] == 8
    (run / "evaluations" / NAME / "robustness.json").write_text("{}")
    assert main(again) == 2
    assert main([*again, "--update"]) == 0
    assert list(measured(run)["perturbations"]) == ["jpeg"]
    stronger = PERTURBATIONS["jpeg"]._replace(values=(60, 50, 40, 30, 20))
    monkeypatch.setitem(perturbations.PERTURBATIONS, "jpeg", stronger)
    assert main(again) == 0
    assert measured(run)["perturbations"]["jpeg"]["values"] == [60, 50, 40, 30, 20]


@pytest.mark.slow
def test_several_runs_are_drawn_together_and_programs_get_json(run, command, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    given = [*command[:2], str(other), *command[2:], "--robustness", "contrast"]
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in told] == ["run", "other"]
    assert told[1]["robustness"] == measured(other)
    assert (tmp_path / "compare" / f"robustness_{NAME}.png").is_file()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("sepia", "no perturbation 'sepia': choose from jpeg, h264, blur, noise, resize"),
        (",", "no perturbation named"),
        ("h264", "built without libx264: pip install --force-reinstall av"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    names, says, run, command, monkeypatch, capsys
):
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    assert main([*command, "--robustness", names]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (run / "evaluations").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_corrupt_measurement_is_one_line_and_replaced_by_force(run, command, capsys):
    assert main([*command, "--robustness", "contrast"]) == 0
    (run / "evaluations" / NAME / "robustness.json").write_text("{")
    capsys.readouterr()
    assert main([*command, "--robustness", "contrast"]) == 2
    assert "robustness.json cannot be read: remove it" in capsys.readouterr().err
    assert main([*command, "--robustness", "contrast", "--force"]) == 0
    assert list(measured(run)["perturbations"]) == ["contrast"]


@pytest.mark.usefixtures("undrawn")
def test_details_are_shown_and_completed_from_the_scores_of_earlier_evaluations(
    run, command, tiny_ffpp, capsys
):
    assert main(command) == 0
    file = run / "evaluations" / NAME / "evaluation.json"
    record = json.loads(file.read_text())
    keys = ("calibration", "thresholds", "forgeries")
    assert {*keys} <= record.keys()
    assert [row["method"] for row in record["forgeries"]] == ["Celeb-synthesis"]
    assert record["forgeries"][0]["frame"]["auc"] == record["metrics"]["test/frame/auc"]
    assert "--split val" in record["thresholds"]["frame"]["validation"]
    here = record["thresholds"]["frame"]["here"]
    assert [point["threshold"] for point in here] == [None] * 3  # six real frames

    old = {key: value for key, value in record.items() if key not in keys}
    file.write_text(json.dumps(old))
    (file.parent / "reliability.png").unlink()
    assert main(command) == 0
    assert json.loads(file.read_text()) == record
    assert (file.parent / "reliability.png").is_file()

    own = ["--on", f"ffpp-c23:{tiny_ffpp}", "--split", "val"]
    assert main(["evaluate", str(run), *own]) == 0
    capsys.readouterr()
    assert main([*command, "--details"]) == 0
    out = capsys.readouterr().out
    for words in ("ECE", "Brier", "chosen on", "validation (8)", "too few", "Celeb-synthesis"):
        assert words in out
    now = json.loads(file.read_text())["thresholds"]["frame"]["validation"][0]
    assert (now["reals"], now["threshold"]) == (8, None)


@pytest.mark.slow
def test_all_of_them_at_once(run, command):
    assert main([*command, "--robustness"]) == 0
    record = measured(run)
    assert list(record["perturbations"]) == list(PERTURBATIONS)
    assert len(pd.read_csv(run / "evaluations" / NAME / "robustness.csv")) == 2 + 7 * 5 * 2
