"""`tokd explain`: from runs to figures, tables and W&B."""

import hashlib
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import wandb_log
import yaml
from evaluated import OPTIONS, SHORT, bright_ffpp, fit_and_test
from matplotlib.figure import Figure
from PIL import Image
from test_cli import ROOT, TINY_STUDENT, TINY_TEACHER, folder

from tokd_lightning.cli import main
from tokd_lightning.evaluation import open_run
from tokd_lightning.explain.cams import read_maps
from tokd_lightning.models.gradcam import grad_cam

BANDS = ["--bands", "4", "--frames", "5", "--errors", "2"]
FIGURES = {"bands.png", "bands.pdf", "gradcam.png", "gradcam.pdf"}
STUDENT = FIGURES | {"bands.csv", "gradcam.npz"}
TEACHER = STUDENT | {"rfam.csv", "rfam.png", "rfam.pdf"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return bright_ffpp(tmp_path_factory.mktemp("data"))


def undrawn(patch):
    """Spare the time that figures take."""
    patch.setattr(Figure, "savefig", lambda figure, page, **_: page.write(b"a page"))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """A student that W&B knows and a teacher that it does not, explained together."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        fit_and_test("demo_vanilla", data, runs, *TINY_STUDENT, *SHORT, pictures=True)
        teacher = ["fit", f"--config={ROOT}/experiments/demo_teacher.yaml", f"--runs={runs}"]
        assert main([*teacher, f"--data.root={data}", *OPTIONS, *TINY_TEACHER, *SHORT]) == 0
        both = [str(folder(runs, what)) for what in ("vanilla", "teacher")]
        (folder(runs, "vanilla") / "wandb.json").write_text('{"id": "0123abcd", "table": null}')
        assert main(["explain", both[0], *BANDS]) == 0
        undrawn(patch)
        assert main(["explain", *both, *BANDS, "--out", str(runs / "together")]) == 0
    return runs


@pytest.fixture(scope="module")
def student(runs):
    return folder(runs, "vanilla")


@pytest.fixture
def copied(student, tmp_path, monkeypatch):
    """A run that a test may write into."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    undrawn(monkeypatch)
    return shutil.copytree(student, tmp_path / student.name)


def contents(place):
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def one_line(capsys):
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("what", "names"), [("vanilla", STUDENT), ("teacher", TEACHER)])
def test_an_explanation_says_what_it_is_made_of(runs, what, names):
    found = contents(folder(runs, what) / "explanations")
    assert set(found) == names | {"explanations.json"}
    record = json.loads(found["explanations.json"])
    assert record["files"] == {n: hashlib.sha256(found[n]).hexdigest() for n in names}
    assert set(record["hashes"]) == {"data", "labels", "checkpoint", "source"}
    assert record["counts"]["frames"] == 40
    assert record["counts"]["methods"]["real"] == 8
    assert record["options"]["precision"] == "32-true"
    assert record["versions"]["torch"]


def test_with_all_bands_the_scores_are_those_of_the_test(student):
    run = student
    table = pd.read_csv(run / "explanations" / "bands.csv")
    assert list(table["filter"]).count("remove") == 4
    assert len(table) == 12
    tested = pd.read_csv(run / "test_frames.csv")
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert table["auc"].iloc[0] == pytest.approx(metrics["test/frame/auc"], abs=1e-6)
    for label, column in enumerate(("p_fake_real", "p_fake_fake")):
        expected = tested.loc[tested["label"] == label, "p_fake"].mean()
        assert table[column].iloc[0] == pytest.approx(expected, abs=1e-6)


def test_the_frames_are_those_of_pictures_and_the_worst_errors(runs, student):
    cams = read_maps(student / "explanations" / "gradcam.npz")
    kinds = ["real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]
    assert cams.rows["method"].tolist()[:5] == kinds
    worst = cams.rows.iloc[5:]
    assert len(worst) == 2
    assert ((worst["p_fake"] > 0.5) != (worst["label"] == 1)).all()
    tested = pd.read_csv(student / "test_frames.csv").set_index("path")["p_fake"]
    np.testing.assert_allclose(cams.rows["p_fake"], tested[cams.rows["path"]], atol=1e-6)


def test_the_maps_are_grad_cam_of_the_frames_shown(student):
    cams = read_maps(student / "explanations" / "gradcam.npz")
    trained = open_run(student)
    x = torch.from_numpy(cams.images).permute(0, 3, 1, 2) / 255
    std = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    _, [heat] = grad_cam(trained.model.network.eval(), (x - 0.3) / std)
    assert cams.names == [("student", 32)]
    np.testing.assert_allclose(cams.maps[0], heat.values, atol=1e-5)


def test_a_teacher_s_attention_is_told_per_method(runs):
    table = pd.read_csv(folder(runs, "teacher") / "explanations" / "rfam.csv")
    assert len(table) == 3 * 2 * 5
    assert table["attention"].between(0, 1).all()
    assert (table["frames"] == 8).all()


def test_runs_named_together_have_figures_together(runs):
    found = contents(runs / "together")
    assert set(found) == FIGURES | {"bands.csv"}
    table = pd.read_csv(io.BytesIO(found["bands.csv"]))
    assert table["run"].value_counts().to_dict() == {"Teacher": 12, "Vanilla": 12}


def test_wandb_shows_the_figures_in_the_run_of_the_fit(student):
    logged = wandb_log.read(student)
    assert logged.run.run_id == "0123abcd"
    assert logged.exit == 0
    [files] = student.glob("wandb/offline-run-*/files")
    for name in ("gradcam", "bands"):
        picture = files / logged.summary[f"explanations/{name}"]["path"]
        assert picture.read_bytes() == (student / "explanations" / f"{name}.png").read_bytes()
    table = json.loads((files / logged.summary["tables/bands"]["path"]).read_text())
    assert table["columns"] == list(pd.read_csv(student / "explanations" / "bands.csv").columns)
    assert len(table["data"]) == 12
    # An offline file takes the place of the earlier ones: it has what they had.
    assert logged.summary["test/frame/auc"] is not None
    assert {"pictures", "tables/methods"} <= logged.summary.keys()
    assert any("val/loss" in row for row in logged.history)


def test_an_equal_explanation_is_reused_another_is_named_and_force_repeats(copied, capsys):
    place, command = copied / "explanations", ["explain", str(copied), *BANDS]
    before = contents(place)
    assert main([*command, "--batch-size", "3"]) == 0
    assert "explained already" in capsys.readouterr().out
    assert main([*command, "--bands", "3"]) == 2
    line = one_line(capsys)
    assert "edges" in line
    assert line.endswith("--force explains again")
    assert contents(place) == before
    assert main([*command, "--bands", "3", "--strides", "8", "32", "--force"]) == 0
    assert len(pd.read_csv(place / "bands.csv")) == 9
    assert read_maps(place / "gradcam.npz").names == [("student", 8), ("student", 32)]


def drawn(place):
    """Names of the figures, each of which shows something."""
    for path in place.glob("*.png"):
        assert np.asarray(Image.open(path)).std() > 10
    return {path.name for path in place.glob("*.png")}


def test_figures_show_something(student):
    assert drawn(student / "explanations") == {"bands.png", "gradcam.png"}


@pytest.mark.slow
def test_figures_of_teachers_and_of_runs_together_show_something(runs, tmp_path):
    for what in ("vanilla", "teacher"):
        shutil.copytree(folder(runs, what), tmp_path / what)
    (tmp_path / "vanilla" / "wandb.json").unlink()
    out, both = tmp_path / "out", [str(tmp_path / what) for what in ("vanilla", "teacher")]
    assert main(["explain", *both, *BANDS, "--force", "--out", str(out)]) == 0
    assert drawn(tmp_path / "teacher" / "explanations") == {"bands.png", "gradcam.png", "rfam.png"}
    assert drawn(out) == {"bands.png", "gradcam.png"}


@pytest.mark.slow
def test_what_was_changed_since_is_made_anew(copied, capsys):
    place = copied / "explanations"
    before = contents(place)
    (place / "bands.csv").write_text("spoilt")
    assert main(["explain", str(copied), *BANDS]) == 0
    assert "explained already" not in capsys.readouterr().out
    assert contents(place)["bands.csv"] == before["bands.csv"]


def test_data_that_have_moved_are_asked_for(copied, capsys):
    config = yaml.safe_load((copied / "fit.yaml").read_text())
    config["data"]["init_args"]["root"] = "/nowhere"
    (copied / "fit.yaml").write_text(yaml.safe_dump(config))
    before = contents(copied / "explanations")
    assert main(["explain", str(copied), *BANDS, "--force"]) == 2
    assert "if it is elsewhere now: --on" in one_line(capsys)
    assert contents(copied / "explanations") == before


@pytest.mark.slow
def test_the_run_s_own_data_at_another_place_are_its_own(copied, data):
    on = ["--on", f"synthetic=ffpp-c23:{data}", "--band-frames", "1", "--force"]
    assert main(["explain", str(copied), *BANDS, *on]) == 0
    record = json.loads((copied / "explanations" / "explanations.json").read_text())
    assert record["counts"]["frames"] == 10
    assert record["data"]["path"] == str(data)


@pytest.mark.slow
def test_other_data_and_the_validation_split_have_folders_of_their_own(copied, data):
    before = contents(copied / "explanations")
    assert main(["explain", str(copied), *BANDS, "--split", "val", "--band-frames", "1"]) == 0
    on = ["--on", f"wild=ffpp-c23:{data}", "--band-frames", "1"]
    assert main(["explain", str(copied), *BANDS, *on]) == 0
    for name in ("val", "wild-c23"):
        assert set(contents(copied / "explanations" / name)) == STUDENT | {"explanations.json"}
    assert contents(copied / "explanations") == before


@pytest.mark.slow
def test_an_unreadable_frame_leaves_the_earlier_explanation(copied, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / "data")
    next(root.glob("original_sequences/youtube/c23/faces/008/*.png")).write_text("no image")
    place = copied / "explanations"
    before = contents(place)
    command = ["explain", str(copied), *BANDS, "--on", f"synthetic=ffpp-c23:{root}", "--force"]
    assert main(command) == 2
    line = one_line(capsys)
    assert "cannot read" in line
    assert "pass --on-error skip" in line
    assert contents(place) == before
    assert main([*command, "--on-error", "skip"]) == 0
    counts = json.loads((place / "explanations.json").read_text())["counts"]
    assert (counts["frames"], counts["skipped"]) == (39, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--frames", "0"], "--frames must be at least 1"),
        (["--bands", "1"], "--bands must be at least 2"),
        (["--bands", "200", "--force"], "fewer --bands"),
        (["--strides", "7"], "--strides 7: choose from 8, 16, 32"),
        (["--on", "nowhere"], "no data set of the kind"),
        (["--band-frames", "0"], "--band-frames must be at least 1"),
    ],
)
def test_mistakes_are_told_in_one_line(copied, given, said, capsys):
    before = contents(copied / "explanations")
    assert main(["explain", str(copied), *given]) == 2
    assert said in one_line(capsys)
    assert contents(copied / "explanations") == before


def test_what_is_no_run_is_named_and_the_others_are_explained(copied, tmp_path, capsys):
    (tmp_path / "no").mkdir()
    assert main(["explain", str(tmp_path / "no"), str(copied), *BANDS]) == 2
    told = capsys.readouterr()
    assert "is not a run folder" in told.err
    assert told.err.count("\n") == 1
    assert "explained already" in told.out
