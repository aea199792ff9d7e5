"""`tokd audit FILE`: an audit of a bundle equals that of the run folders."""

import json
import shutil
from pathlib import Path

import pytest
from planted_audit import plant, scores
from test_audit_data import plant_run
from trees import make_ffpp

from tokd_lightning.cli import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run measured on its data, one evaluated elsewhere, one without scores; without data."""
    place = tmp_path_factory.mktemp("audited")
    root = make_ffpp(place / "data", ids=20, frames=1, size=48, methods=("Deepfakes", "FaceSwap"))
    shutil.move(plant_run(place / "one", root, methods=["Deepfakes", "FaceSwap"]), place / "a")
    folder = place / "runs"
    folder.mkdir()
    shutil.move(place / "a", folder / "measured")
    elsewhere = {"wild-unknown": scores("wild", "unknown", 1.0)}
    plant(folder, "other", elsewhere=elsewhere, validation=scores(seed=5, split="val"))
    shutil.rmtree(plant(folder, "empty") / "evaluations", ignore_errors=True)
    (folder / "empty/test_frames.csv").unlink()
    measured = ["audit", str(folder / "measured"), "--data", str(root)]
    assert main([*measured, "--out", str(place / "x")]) in (0, 1)
    shutil.rmtree(root)
    return folder


def test_an_audit_of_a_bundle_equals_that_of_the_folders(runs: Path, tmp_path: Path, capsys):
    file = tmp_path / "runs.tokd"
    assert main(["report", "--runs", str(runs), "--bundle", str(file)]) == 0
    folders = [str(runs / "measured"), str(runs / "other")]
    codes = [main(["audit", *folders, "--out", str(tmp_path / "folders")])]
    capsys.readouterr()
    codes.append(main(["audit", str(file)]))
    assert "1 of 3 runs have no scores" in capsys.readouterr().out
    assert codes[0] == codes[1]
    bundled = tmp_path / "runs-audit"
    for name in ("measured.json", "other.json"):
        ours, theirs = ((place / name).read_text() for place in (tmp_path / "folders", bundled))
        assert ours == theirs
    document = json.loads((bundled / "measured.json").read_text())
    known = {check["name"]: check["outcome"] for check in document["checks"]}
    assert "not checked" not in {known["leaks"], known["duplicates"], known["shortcuts"]}
    pages = [(place / "audit.html").read_text() for place in (tmp_path / "folders", bundled)]
    assert pages[0].replace(f"stored scores in {runs}", "X") == pages[1].replace(
        "stored scores in runs.tokd", "X"
    )


@pytest.mark.slow
def test_mistakes_with_a_bundle_end_in_one_line(runs: Path, tmp_path: Path, capsys):
    file = tmp_path / "runs.tokd"
    spoiled = Path(shutil.copytree(runs, tmp_path / "runs"))
    (spoiled / "other/test_frames.csv").write_text("a\n1\n")
    assert main(["report", "--runs", str(spoiled), "--bundle", str(file)]) == 0
    for options, words in (
        ([str(file)], "other/test_frames.csv is not a table of scores"),
        ([str(file), "--data", str(tmp_path)], "is a bundle, to which nothing is added"),
        ([str(spoiled / "other/metrics.json")], "is not a bundle of tokd report"),
    ):
        capsys.readouterr()
        assert main(["audit", *options]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert "tokd-bundle-" not in error
