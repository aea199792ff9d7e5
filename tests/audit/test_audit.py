"""`tokd audit` on planted scores: faults are found, a clean run has none."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from planted_audit import FORGERIES, plant, plant_evaluation, scores
from sklearn.metrics import roc_auc_score

from tokd_lightning.audit import audit_run
from tokd_lightning.audit.checks import VERDICTS, checks, verdict
from tokd_lightning.cli import main
from tokd_lightning.metrics.calibration import calibrated, fit_temperature, scaled
from tokd_lightning.metrics.classification import video_table

CELEBDF = {"dataset": "celebdf", "quality": "original", "folders": ("Celeb-real", "YouTube-real")}


def outcomes(audit):
    return {check["name"]: check["outcome"] for check in audit["checks"]}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that separates its own test and, less so, another data set; do not write into it."""
    elsewhere = {"celebdf-original": scores(separation=1.5, videos=60, seed=3, **CELEBDF)}
    validation = scores(seed=5, split="val")
    return plant(tmp_path_factory.mktemp("runs"), elsewhere=elsewhere, validation=validation)


@pytest.fixture(scope="module")
def audited(clean: Path):
    return audit_run(clean)


def test_a_clean_run_has_no_fault(audited):
    failed = [check["name"] for check in audited["checks"] if check["outcome"] == "failed"]
    assert failed == []
    unknown = {name for name, outcome in outcomes(audited).items() if outcome == "not checked"}
    assert unknown == {"leaks", "duplicates", "shortcuts", "baseline"}  # they need the data
    assert audited["verdict"]["text"] == "The scores show no fault; the data were not checked."


def test_inverted_labels_are_found(tmp_path: Path):
    table = scores()
    table["p_fake"] = 1 - table["p_fake"]
    audit = audit_run(plant(tmp_path, test=table))
    assert outcomes(audit)["labels"] == "failed"
    assert "wrong way round" in next(c["said"] for c in audit["checks"] if c["name"] == "labels")
    assert audit["verdict"]["text"] == "Do not trust these numbers: labels."


@pytest.mark.parametrize("column", ["folder", "quality", "dataset"])
def test_a_shift_between_reals_is_found_by_what_divides_them(tmp_path: Path, column: str):
    folders = ("originals/a", "originals/b")
    table = scores(folders=folders, shift=2.0, separation=4.0)
    second = (table["label"] == 0) & table["path"].str.startswith("originals/b")
    if column != "folder":
        table["path"] = table["path"].str.replace("originals/b", "originals/a")
        table[column] = np.where(second, "other", table[column])
    audit = audit_run(plant(tmp_path, test=table))
    assert outcomes(audit)["real against real"] == "failed"
    row = next(row for row in audit["real_floor"])
    assert row["kind"] == column.replace("dataset", "data set")
    assert row["auc"]["low"] > 0.55


@pytest.mark.slow
def test_reals_of_one_source_are_not_told_apart(tmp_path: Path):
    audit = audit_run(plant(tmp_path, test=scores(folders=("a", "b"), videos=60)))
    assert outcomes(audit)["real against real"] == "passed"
    assert [row["kind"] for row in audit["real_floor"]] == ["folder"]


def test_the_floor_between_data_sets_and_cross_auc_equal_scikit_learn(clean: Path, audited):
    own = video_table(scores())
    other = video_table(scores(separation=1.5, videos=60, seed=3, **CELEBDF))
    classes = [[t.loc[t["label"] == label, "p_fake"] for label in (1, 0)] for t in (own, other)]
    for i, (fakes, _) in enumerate(classes):
        for j, (_, reals) in enumerate(classes):
            label = [1] * len(fakes) + [0] * len(reals)
            wanted = roc_auc_score(label, [*fakes, *reals])
            assert audited["cross"]["auc"][i][j]["value"] == pytest.approx(wanted, abs=1e-6)
    between = next(row for row in audited["real_floor"] if not row["on"])
    label = [0] * 40 + [1] * 60
    wanted = roc_auc_score(label, [*classes[0][1], *classes[1][1]])
    assert between["auc"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert audited["cross"]["names"] == ["ffpp-c23", "celebdf-original"]


def test_forgeries_are_against_all_reals_and_without_is_the_rest(audited):
    videos = video_table(scores())
    rows = {row["method"]: row for row in audited["forgeries"] if row["on"] == "ffpp-c23"}
    assert set(rows) == set(FORGERIES)
    for method, row in rows.items():
        its = videos[(videos["label"] == 0) | (videos["method"] == method)]
        rest = videos[videos["method"] != method]
        for key, table in (("auc", its), ("without", rest)):
            wanted = roc_auc_score(table["label"], table["p_fake"])
            assert row[key]["value"] == pytest.approx(wanted, abs=1e-6)
        assert row["seen"] is True
    assert {r["seen"] for r in audited["forgeries"] if r["on"] != "ffpp-c23"} == {None}


@pytest.mark.parametrize(
    "data",
    [{"leave_out": ["FaceSwap"]}, {"methods": ["Deepfakes", "Face2Face", "NeuralTextures"]}],
)
def test_a_forgery_left_out_of_training_is_unseen(tmp_path: Path, data):
    audit = audit_run(plant(tmp_path, data=data))
    assert [row["method"] for row in audit["forgeries"] if row["seen"] is False] == ["FaceSwap"]


def test_a_forgery_left_out_of_several_data_sets_is_unseen(tmp_path: Path):
    audit = audit_run(plant(tmp_path, data={"name": "mixed", "leave_out": ["FaceSwap"]}))
    seen = {row["method"]: row["seen"] for row in audit["forgeries"]}
    assert seen == dict.fromkeys(FORGERIES) | {"FaceSwap": False}


def test_a_run_that_forges_its_fakes_has_seen_no_stored_forgery(tmp_path: Path):
    audit = audit_run(plant(tmp_path, data={"forge": "sbi"}))
    assert [row["seen"] for row in audit["forgeries"]] == [False] * len(FORGERIES)


@pytest.mark.parametrize(("data", "words"), [({"forge": "sbi"}, "it forges"), ({}, "evaluate RUN")])
def test_without_scores_of_its_validation_an_audit_says_what_is_missing(tmp_path, data, words):
    run = plant(tmp_path, data=data)
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    assert words in audit_run(run)["calibration"]["why"]


def test_the_temperature_is_fitted_on_validation_alone(tmp_path: Path):
    """Scores whose logits are doubled in the test and in validation need T = 2 or so."""
    tables = []
    for seed in (0, 5):
        table = scores(seed=seed, separation=0.0, videos=150, frames=1)
        p, rng = table["p_fake"].to_numpy(), np.random.default_rng(seed)
        fake = rng.random(len(p)) < p  # P(fake) is calibrated ...
        reals = table["label"] == 0
        keep = fake == ~reals.to_numpy()
        table = table[keep].reset_index(drop=True)
        p = table["p_fake"].to_numpy()
        tables.append(table.assign(p_fake=scaled(p, 0.5)))  # ... before it is made too sure
    audit = audit_run(plant(tmp_path, test=tables[0], validation=tables[1]))
    told = audit["calibration"]
    assert told["validation_frames"] == len(tables[1])
    label, p_fake = (tables[0][key].to_numpy() for key in ("label", "p_fake"))
    wanted = calibrated(label, scaled(p_fake, told["temperature"]))
    assert told["rows"][0]["after"]["nll"] == wanted["nll"]
    assert told["rows"][0]["before"]["nll"] == calibrated(label, p_fake)["nll"]


def test_the_temperature_of_a_run_is_fitted_without_what_it_leaves_out(tmp_path: Path):
    whole = scores(seed=5, split="val")
    kept = whole[whole["method"] != "FaceSwap"].reset_index(drop=True)
    run = plant(tmp_path, validation=kept, data={"leave_out": ["FaceSwap"]})
    (run / "evaluations/own-val").rename(tmp_path / "gone")
    plant_evaluation(run, "own-val", whole, "val")  # as `tokd evaluate --split val` scores it
    told = audit_run(run)["calibration"]
    assert told["validation_frames"] == len(kept) < len(whole)
    label, p_fake = (kept[key].to_numpy() for key in ("label", "p_fake"))
    assert told["temperature"] == fit_temperature(label, p_fake)


def test_the_verdict_is_the_first_whose_condition_holds(clean: Path, audited):
    from tokd_lightning.audit.stored import read_stored

    made = checks(read_stored(clean), audited)
    by_name = {check.name: check for check in made}

    def said(**changes):
        return verdict([
            check._replace(outcome=changes.get(name.replace(" ", "_"), "passed"))
            for name, check in by_name.items()
        ]).text  # fmt: skip

    texts = [text for _, text, _ in VERDICTS]
    assert said() == f"{texts[-1]}."
    assert said(leaks="failed", ranking="failed").startswith(texts[0])
    assert said(ranking="failed").startswith(texts[1])
    assert said(shortcuts="not checked").startswith(texts[2])
    assert said(elsewhere="not checked").startswith(texts[3])
    assert said(elsewhere="failed", baseline="failed").startswith(texts[4])
    assert said(baseline="not checked").startswith(texts[5])
    assert said(baseline="failed").startswith(texts[6])
    assert said(calibration="failed").endswith("Caveats: calibration.")


def test_the_command_writes_page_and_json_and_prints_80_columns(
    clean: Path, tmp_path: Path, capsys, monkeypatch, audited
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["audit", str(clean), "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
    for words in ("ffpp-c23", "real against real", "passed", "The scores show no fault"):
        assert words in out
    assert json.loads((tmp_path / "a/run.json").read_text()) == json.loads(json.dumps(audited))
    page = (tmp_path / "a/audit.html").read_text()
    assert re.sub(r"https?://www\.w3\.org/\S*", "", page).count("http") == 0
    for words in ("The scores show no fault", "Cross-AUC", "reals of celebdf-original", "<svg"):
        assert words in page


@pytest.mark.slow
def test_a_fault_is_exit_code_1_and_json_is_a_list(tmp_path: Path, capsys):
    table = scores()
    table["p_fake"] = 1 - table["p_fake"]
    folders = [plant(tmp_path, "one", table), plant(tmp_path, "two", scores())]
    assert main(["audit", *map(str, folders), "--json"]) == 1
    assert [audit["run"] for audit in json.loads(capsys.readouterr().out)] == ["one", "two"]
    assert {f.name for f in (tmp_path / "audit").iterdir()} == {
        "audit.html",
        "one.json",
        "two.json",
    }


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "test_frames.csv").unlink(), "has no stored scores: tokd test"),
        (
            lambda run: (run / "test_frames.csv").write_text("a,b\n1,2\n"),
            "is not a table of scores",
        ),
        (lambda run: (run / "test_frames.csv").write_text(""), "is not a table of scores"),
        (lambda run: scores(seed=9).to_csv(run / "test_frames.csv"), "another accuracy"),
        (lambda run: (run / "metrics.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "fit.yaml").write_text("["), "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_audited_ends_in_one_line(tmp_path: Path, capsys, spoil, words):
    run = plant(tmp_path)
    spoil(run)
    assert main(["audit", str(run)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "audit").exists()


def test_what_is_no_run_ends_in_one_line(tmp_path: Path, capsys):
    for path, words in ((tmp_path, "is not a run folder"), (tmp_path / "no", "does not exist")):
        assert main(["audit", str(path)]) == 2
        assert words in capsys.readouterr().err


def test_evaluations_of_other_weights_and_of_the_same_frames_are_left_out(tmp_path: Path):
    run = plant(tmp_path, elsewhere={"wild-unknown": scores("wild"), "ffpp-c23": scores()})
    file = run / "evaluations/wild-unknown/evaluation.json"
    record = json.loads(file.read_text())
    record["hashes"]["checkpoint"] = "x" * 64
    file.write_text(json.dumps(record))
    audit = audit_run(run)
    assert [one["name"] for one in audit["ranking"]] == ["ffpp-c23"]
    assert "own test" in audit["notes"][0]
    assert "weights that the run no longer has" in audit["notes"][1]


@pytest.mark.slow
def test_one_class_is_said_and_not_ranked(tmp_path: Path):
    table = scores()
    audit = audit_run(plant(tmp_path, test=table[table["label"] == 1]))
    assert outcomes(audit)["ranking"] == "not checked"
    assert "nan" not in json.dumps(audit).lower()
    assert main(["audit", str(tmp_path / "run")]) == 0
