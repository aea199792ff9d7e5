"""Temperature scaling: the fit against a grid, and an export whose probabilities are scaled."""

import json

import numpy as np
import pytest
from test_detect import as_json, refused

from tokd_lightning.cli import main
from tokd_lightning.metrics.calibration import calibrated, fit_temperature, scaled


def overconfident(factor, count=4000):
    """Scores whose logits are a factor too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, count)
    label = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(int)
    return label, 1 / (1 + np.exp(-factor * logits))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_and_has_the_lowest_nll(factor):
    label, p_fake = overconfident(factor)
    found = fit_temperature(label, p_fake)
    assert found == pytest.approx(factor, rel=0.1)
    best = min(
        np.geomspace(0.05, 20, 400), key=lambda t: calibrated(label, scaled(p_fake, t))["nll"]
    )
    assert found == pytest.approx(best, rel=0.02)
    p = np.array([0.0, 0.2, 0.5, 1.0])
    logits = np.log(0.2 / 0.8) / factor
    assert scaled(p, factor)[1] == pytest.approx(1 / (1 + np.exp(-logits)))
    assert np.isfinite(scaled(p, factor)).all()


def test_perfect_scores_end_at_the_border():
    label = np.array([0, 1])
    assert fit_temperature(label, np.array([0.1, 0.9])) == pytest.approx(0.05, rel=1e-4)
    assert fit_temperature(label, np.array([0.9, 0.1])) == pytest.approx(20, rel=1e-4)


@pytest.mark.slow
def test_a_calibrated_export_scores_with_divided_logits(run, data, mixed, model, tmp_path, capsys):
    out = tmp_path / "calibrated"
    given = ["--detector", "haar", "--format", "onnx,safetensors", "--calibrate"]
    assert main(["export", str(run), "--out", str(out), *given]) == 0
    record = json.loads((out / "model.json").read_text())
    found = record["temperature"]
    assert found["after"]["nll"] <= found["before"]["nll"]
    assert f"{found['value']:.4f}" in (out / "MODEL_CARD.md").read_text()
    plain = json.loads((model / "model.json").read_text())
    for level in ("frame", "video"):  # the same order of scores: the same files are called fake
        metrics = [one["threshold"][level]["at_value"] for one in (record, plain)]
        assert metrics[0] == pytest.approx(metrics[1])
    capsys.readouterr()
    for backend in ("onnx", "torch"):
        files = [mixed / "dark.png", mixed / "bright.jpg", f"--backend={backend}"]
        before, after = (as_json(capsys, where, *files)["files"] for where in (model, out))
        for one, other in zip(before, after, strict=True):
            expected = scaled(np.array([one["p_fake"]]), found["value"])[0]
            assert other["p_fake"] == pytest.approx(expected, abs=1e-5)
    without = ["--data", str(tmp_path), "--out", str(tmp_path / "new"), "--calibrate"]
    code = main(["export", str(run), *without])
    refused(capsys, "--calibrate needs validation scores", code)
