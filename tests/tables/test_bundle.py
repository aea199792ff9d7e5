"""`tokd report --bundle`: all tables from one file, equal to those of the run folders."""

import hashlib
import json
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from planted_cells import plant_cell, plant_evaluation, plant_sizes
from planted_evaluations import plant_evaluated

from tokd_lightning.cli import main
from tokd_lightning.errors import TokdError
from tokd_lightning.runs.bundle import read_bundle, write_bundle
from tokd_lightning.runs.folder import Run
from tokd_lightning.tables.grid import student

BOTH = student("ffpp", "resnet18_thin", "tokd", "both")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of Table 3 and Figure 4, evaluations, sizes, a broken run; do not write into it."""
    place = tmp_path_factory.mktemp("bundled") / "runs"
    for seed in range(2):
        plant_cell(place, replace(BOTH, seed=seed), 0.85, curves=True)
        plant_cell(place, replace(BOTH, seed=seed, branches="rgb"), 0.8)
    broken = plant_cell(place, replace(BOTH, method="at"), 0.8)
    (broken / "metrics.json").write_text("{")
    begun = plant_cell(place, replace(BOTH, method="sp"), 0.8)
    (begun / "metrics.json").unlink()
    folder = plant_cell(place, student("ffpp", "resnet18_thin", "vanilla", "none"), 0.7)
    plant_evaluation(folder, 0.65)
    plant_evaluated(place, "ffpp-c40_resnet18_thin_own_s0", 1.5, "ffpp-c40")
    config = {"data": {"class_path": "x.Y", "init_args": {"root": "/mnt/mine/ff", "name": "ffpp"}}}
    config |= {"seed_everything": 0, "trainer": {"devices": 2, "max_epochs": 3}}
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/best.ckpt").write_bytes(b"weights")
    (folder / "pictures.png").write_bytes(b"picture")
    plant_sizes(place)
    return place


@pytest.fixture(scope="module")
def bundle(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sent") / "runs.tokd"
    assert main(["report", "--runs", str(runs), "--bundle", str(file)]) == 0
    return file


def contents(folder: Path) -> dict[str, str]:
    """Every file of a report, without the line that says when and of what it was made."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            text = re.sub(r"Made [^\n]*? from [^\n]*", "", path.read_text())
            text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)
            found[path.relative_to(folder).as_posix()] = text
    return found


def test_a_report_of_a_bundle_equals_that_of_the_folders(runs, bundle, tmp_path, capsys):
    tables = ["--table", "1", "3", "7", "figure4"]
    places = tmp_path / "folders", tmp_path / "bundled"
    printed = []
    for source, out in zip((["--runs", str(runs)], [str(bundle)]), places, strict=True):
        assert main(["report", *source, *tables, "--out", str(out)]) == 0
        printed.append(capsys.readouterr().out.replace(str(out), "OUT"))
    ours, theirs = map(contents, places)
    assert set(ours) == set(theirs)
    assert len([name for name in ours if name.startswith("tables/")]) == 5
    for name in ours:
        assert ours[name] == theirs[name], name
    assert printed[0] == printed[1]
    assert "unreadable" in ours["report.csv"]
    assert "runs.tokd (tokd_lightning" in (places[1] / "report.html").read_text()


def test_a_bundle_holds_no_picture_no_checkpoint_and_no_place(runs: Path, bundle: Path, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        text = b"".join(map(archive.read, names))
    assert {name.rpartition(".")[2] for name in names} == {"json", "csv", "yaml"}
    assert b"/mnt/mine" not in text
    assert "bundle.json" in names
    found = read_bundle(bundle, tmp_path)
    config = Run(next(found.folder.glob("*vanilla*"))).config()
    assert config["data"]["init_args"] == {"name": "ffpp"}
    assert config["trainer"] == {"max_epochs": 3}


def test_equal_runs_give_equal_bytes(runs: Path, bundle: Path, tmp_path: Path):
    assert main(["report", "--runs", str(runs), "--bundle", str(tmp_path / "again.tokd")]) == 0
    assert (tmp_path / "again.tokd").read_bytes() == bundle.read_bytes()


@pytest.mark.slow
def test_states_are_those_of_the_day_of_the_bundle(runs: Path, tmp_path: Path):
    file = tmp_path / "b.tokd"
    write_bundle(runs, file, {BOTH.name: ("stale", ("code",))})
    assert main(["report", str(file), "--table", "3"]) == 0
    rows = (tmp_path / "b-report/report.csv").read_text().splitlines()
    assert any(BOTH.name in row and ",stale,code," in row for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["FILE", "--bundle", "x.tokd"], "is a bundle already"),
        (["--runs", "RUNS", "--bundle", "x.tokd", "--table", "3"], "--bundle holds all runs"),
        (["--runs", "no", "--bundle", "x.tokd"], "is not a folder"),
        (["--runs", "EMPTY", "--bundle", "x.tokd"], "has no run with results"),
        (["--runs", "RUNS", "--bundle", "/dev/null/x"], "cannot be written"),
        (["FILE", "--runs", "RUNS"], "is a bundle and holds its runs: leave out --runs"),
        (["no.tokd"], "no.tokd cannot be read"),
        (["RUNS"], "cannot be read: Is a directory"),
    ],
)
def test_mistakes_end_in_one_line(runs, bundle, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"FILE": str(bundle), "RUNS": str(runs), "EMPTY": str(tmp_path / "empty")}
    assert main(["report", *(places.get(word, word) for word in options)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def forged(file: Path, files: dict[str, bytes], change=None, listed=None) -> Path:
    """Write a bundle by hand; ``change`` changes its index, ``listed`` what it lists."""
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in (files if listed is None else listed).items()
    }
    about = {"format": 1, "version": "0", "commit": None, "runs": "runs", "states": {}}
    about["files"] = entries
    if change:
        change(about)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", json.dumps(about))
        for name, content in files.items():
            archive.writestr(name, content)
    return file


METRICS = "runs/a/metrics.json"


@pytest.mark.parametrize(
    "name",
    ["../metrics.json", "/etc/metrics.json", "runs/../../metrics.json", "runs/../metrics.json",
     "runs/.ssh/metrics.json", "runs/a/../b/metrics.json", "runs/a\\b/metrics.json",
     "runs/a/best.ckpt", "runs/a/evaluations/../frames.csv", "runs/a/b/metrics.json",
     "runs/C:/metrics.json", "runs//metrics.json", "runs/a/metrics.json/", "metrics.json"],
)  # fmt: skip
def test_hostile_names_are_refused(tmp_path: Path, capsys, name: str):
    file = forged(tmp_path / "b.tokd", {name: b"{}"})
    assert main(["report", str(file)]) == 2
    error = capsys.readouterr().err
    assert "is refused" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b.tokd"]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, capsys):
    large = bytes(100 << 20)
    file = forged(tmp_path / "b.tokd", {"runs/a/metrics.csv": large})
    assert file.stat().st_size < 1 << 20
    assert main(["report", str(file)]) == 2
    assert "it would unpack to 100 MB" in capsys.readouterr().err
    # A listed size that is a lie ends the reading there.
    lying = forged(tmp_path / "c.tokd", {METRICS: large}, listed={METRICS: b"{}"})
    place = tmp_path / "place"
    assert main(["report", str(lying)]) == 2
    assert "is not what was written" in capsys.readouterr().err
    assert not place.exists()


def test_negative_sizes_do_not_hide_a_bomb(tmp_path: Path, capsys):
    large = bytes(100 << 20)

    def change(about):
        about["files"]["runs/b/metrics.json"]["bytes"] = -len(large)

    content = {"runs/a/metrics.csv": large, "runs/b/metrics.json": b"{}"}
    assert main(["report", str(forged(tmp_path / "b.tokd", content, change))]) == 2
    assert "a size is negative" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.update(format=2), "update tokd_lightning"),
        (lambda about: about.pop("files"), "its bundle.json is wrong"),
        (lambda about: about.update(states=[1]), "its bundle.json is wrong"),
        (lambda about: about["files"][METRICS].update(sha256="0" * 64), "is not what was written"),
        (lambda about: about["files"][METRICS].update(bytes=1), "is not what was written"),
        (lambda about: about["files"].update({"runs/b/fit.yaml": {"bytes": 0}}), "is damaged"),
        (lambda about: about["files"].pop(METRICS), "is damaged"),
    ],
)
def test_what_is_not_as_listed_is_refused(tmp_path: Path, capsys, change, words: str):
    file = forged(tmp_path / "b.tokd", {METRICS: b"{}"}, change)
    assert main(["report", str(file)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused(tmp_path: Path, capsys):
    file = forged(tmp_path / "b.tokd", {METRICS: b"{}"})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(METRICS, b"{}")
    assert main(["report", str(file)]) == 2
    assert "is in it twice" in capsys.readouterr().err


@pytest.mark.slow
def test_any_damage_ends_in_one_line_and_never_in_other_content(bundle: Path, tmp_path, capsys):
    whole = bundle.read_bytes()
    file = tmp_path / "damaged.tokd"
    for place in range(40, len(whole), len(whole) // 25):
        spoiled = bytearray(whole)
        spoiled[place] ^= 0xFF
        file.write_bytes(spoiled if place % 2 else whole[:place])
        into = tmp_path / str(place)
        with suppress(TokdError):  # any other exception fails the test
            read_bundle(file, into)
            # It was a byte that nothing depends on, such as a time.
            for path in into.rglob("*.*"):
                if path.is_file():
                    name = path.relative_to(into).as_posix()
                    with zipfile.ZipFile(bundle) as archive:
                        assert zlib.crc32(path.read_bytes()) == archive.getinfo(name).CRC
    for junk in (b"", b"no zip", b"PK\x05\x06" + bytes(18)):
        file.write_bytes(junk)
        assert main(["report", str(file)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
