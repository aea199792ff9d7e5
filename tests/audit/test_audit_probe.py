"""The linear probe of `tokd audit`: against scikit-learn, and through the command."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from test_audit_data import audit, plant_run
from trees import make_ffpp

from tokd_lightning.audit.probe import fit_and_score, spaced
from tokd_lightning.cli import main


@pytest.mark.parametrize("seed", [0, 1])
def test_the_classifier_equals_scikit_learn_s(seed: int):
    rng = np.random.default_rng(seed)
    label = (rng.random(90) < 0.8).astype(np.int64)
    train = rng.normal(size=(90, 12)) * rng.random(12) * 5 + label[:, None] * rng.normal(size=12)
    train[:, 3] = 7  # a feature without variance
    test = rng.normal(size=(40, 12)) * 3
    test[:, 3] = 7
    scaler = StandardScaler().fit(train)
    theirs = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=10_000)
    theirs.fit(scaler.transform(train), label)
    wanted = theirs.predict_proba(scaler.transform(test))[:, 1]
    assert fit_and_score(train, label, test) == pytest.approx(wanted, abs=1e-4)


def test_frames_are_evenly_spaced_in_each_video():
    rows = [("d", "real", video, "c23", f"{video}/{i}") for video, n in (("a", 10), ("b", 3))
            for i in range(n)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["dataset", "method", "video", "quality", "path"])
    assert spaced(table)["path"].tolist() == ["a/0", "a/3", "a/5", "a/8", "b/0", "b/1", "b/2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probed") / "data"
    return make_ffpp(root, ids=20, frames=2, size=48, methods=("Deepfakes", "FaceSwap"))


def test_a_run_is_compared_with_the_probe_on_the_same_videos(tmp_path, tree, weights, capsys):
    run = plant_run(tmp_path / "runs", tree, methods=["Deepfakes", "FaceSwap"])
    options = ["--probe", "test_resnet", "--weights", str(weights)]
    _, checks, document = audit(run, tree, capsys, *options)
    assert checks["baseline"]["outcome"] != "not checked"
    told = document["probe"]
    probed = pd.read_csv(run / "audit/probe.csv")
    assert told["about"]["train_frames"] == 12 * 3 * 2
    videos = probed.groupby(["method", "video"]).agg({"label": "first", "p_fake": "mean"})
    from sklearn.metrics import roc_auc_score

    wanted = roc_auc_score(videos["label"], videos["p_fake"])
    assert told["probe_auc"]["value"] == pytest.approx(wanted, abs=1e-6)
    gain = told["auc"]["value"] - told["probe_auc"]["value"]
    assert told["gain"]["value"] == pytest.approx(gain, abs=2e-6)
    assert (checks["baseline"]["outcome"] == "passed") == (told["gain"]["low"] > 0)
    again = (run / "audit/probe.csv").read_bytes()
    assert audit(run, tree, capsys, *options)[2] == document
    assert (run / "audit/probe.csv").read_bytes() == again
    audit(run, tree, capsys)  # measured again without a probe: none is left
    assert not (run / "audit/probe.csv").exists()


def test_what_a_run_leaves_out_its_probe_does_not_train_on(tmp_path, tree, weights, capsys):
    both = ["Deepfakes", "FaceSwap"]
    run = plant_run(tmp_path / "runs", tree, methods=both, leave_out=["FaceSwap"])
    options = ["--probe", "test_resnet", "--weights", str(weights)]
    _, _, document = audit(run, tree, capsys, *options)
    assert document["probe"]["about"]["train_frames"] == 12 * 2 * 2
    assert set(pd.read_csv(run / "audit/probe.csv")["method"]) == {"real", *both}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--probe", "test_resnet"], "--data DIR"),
        (["--weights", "w.pth"], "--data DIR --probe NAME"),
        (["--data", "TREE", "--weights", "w.pth"], "--probe NAME"),
        (["--data", "TREE", "--probe", "no_such"], "no network is named no_such"),
        (["--data", "TREE", "--probe", "test_resnet", "--weights", "no.pth"], "no.pth"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_measured(
    tmp_path, tree, capsys, options, words
):
    run = plant_run(tmp_path / "runs", tree, methods=["Deepfakes", "FaceSwap"])
    given = [str(tree) if word == "TREE" else word for word in options]
    assert main(["audit", str(run), *given]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (run / "audit").exists()
    assert json.loads((run / "metrics.json").read_text())
