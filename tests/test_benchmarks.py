"""The benchmarks of the CPU, tiny: table, JSON, picture, what is kept and what is marked."""

import json
import math
from pathlib import Path

import pytest
import torch


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import __main__

    return __main__


@pytest.fixture
def figures(bench):
    from benchmarks import figures

    return figures


@pytest.fixture
def counted(bench, figures, monkeypatch):
    """Three parts that cost nothing, and the list of those that were measured."""
    calls: list[str] = []

    def fast(sizes):
        calls.append("fast")
        yield figures.Row("a ratio", "x", figures.Spread(1.0, 0.9, 1.1), "<= 1.08")

    def slow(sizes):
        calls.append("slow")
        yield figures.Row("another", "ms", figures.Spread(2.0, 1.0, 3.0), "<= 1.5")

    def growing(sizes):
        from benchmarks.scaling import grows

        calls.append("growing")
        points = [(float(n), figures.exactly(3.0 * n**2)) for n in (1, 2, 4)]
        yield grows("a step", "batch", "ms", points)
        yield grows("a step", "batch", "MB", points)

    monkeypatch.setattr(bench, "EVERY", (fast, slow, growing))
    monkeypatch.setattr(bench.judged, "PARTS", (fast, slow))
    return calls


def test_a_missed_target_is_marked_and_the_exit_code_stays_0(
    bench, counted, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "120")
    assert bench.main(["--out", str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "targets met: 1 of 2" in said
    assert said.count("✗ missed: another") == 1
    assert "│ <= 1.5 │ ✗ missed │" in " ".join(said.split())
    assert "✗ missed: a ratio" not in said
    results = json.loads((tmp_path / "b.json").read_text())["results"]
    assert [(row["what"], row["met"], row["part"]) for row in results] == [
        ("a ratio", True, "fast"),
        ("another", False, "slow"),
    ]
    assert results[0] | {"median": 1.0, "low": 0.9, "high": 1.1, "unit": "x"} == results[0]
    assert not (tmp_path / "b.png").exists()


def test_the_matrix_goes_on_where_it_was_killed(bench, counted, tmp_path, monkeypatch):
    arguments = ["--all", "--out", str(tmp_path / "b.json")]
    fast, slow, growing = bench.EVERY

    def killed(sizes):
        yield next(slow(sizes))
        raise KeyboardInterrupt

    killed.__name__ = "slow"
    monkeypatch.setattr(bench, "EVERY", (fast, killed, growing))
    with pytest.raises(KeyboardInterrupt):
        bench.main(arguments)
    assert json.loads((tmp_path / "b.json").read_text())["parts"].keys() == {"fast"}

    monkeypatch.setattr(bench, "EVERY", (fast, slow, growing))
    assert bench.main(arguments) == 0
    assert counted == ["fast", "slow", "slow", "growing"]
    assert bench.main(arguments) == 0
    assert len(counted) == 4
    assert bench.main([*arguments, "--rerun"]) == 0
    assert counted[4:] == ["fast", "slow", "growing"]
    assert (tmp_path / "b.json.old").exists()


def test_figures_of_other_sizes_are_set_aside_and_not_mixed(bench, counted, tmp_path, capsys):
    arguments = ["--all", "--out", str(tmp_path / "b.json")]
    bench.main(arguments)
    bench.main([*arguments, "--repeats", "3"])
    assert counted == ["fast", "slow", "growing"] * 2
    assert "it has other sizes" in capsys.readouterr().err
    assert json.loads((tmp_path / "b.json").read_text())["sizes"]["repeats"] == 3
    assert json.loads((tmp_path / "b.json.old").read_text())["sizes"]["repeats"] == 10


def test_judged_figures_are_measured_anew_each_time(bench, counted, tmp_path):
    for _ in range(2):
        bench.main(["--out", str(tmp_path / "b.json")])
    assert counted == ["fast", "slow"] * 2


def test_a_part_that_fails_costs_only_itself(bench, counted, tmp_path, monkeypatch, capsys):
    def broken(sizes):
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(bench, "EVERY", (broken, *bench.EVERY))
    assert bench.main(["--all", "--out", str(tmp_path / "b.json")]) == 1
    assert counted == ["fast", "slow", "growing"]
    assert "broken failed: RuntimeError: no such thing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "'nonsense' is not one of fast, slow, growing"),
        (["--repeats", "1"], "--repeats must be at least 2"),
    ],
)
def test_mistakes_end_in_one_line(bench, counted, tmp_path, capsys, arguments, message):
    assert bench.main([*arguments, "--out", str(tmp_path / "b.json")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert counted == []
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_json_is_not_overwritten(bench, counted, tmp_path, capsys):
    (tmp_path / "b.json").write_text("my notes")
    assert bench.main(["--all", "--out", str(tmp_path / "b.json")]) == 2
    assert "move it away" in capsys.readouterr().err
    assert (tmp_path / "b.json").read_text() == "my notes"


def test_the_exponent_of_a_power_law_is_found_and_drawn(bench, counted, tmp_path):
    bench.main(["--all", "--only", "growing", "--out", str(tmp_path / "b.json")])
    time, memory = json.loads((tmp_path / "b.json").read_text())["results"]
    assert time["what"] == "time of a step: exponent of batch"
    assert memory["curve"]["quantity"] == "memory"
    for row in (time, memory):
        assert [row[key] for key in ("low", "median", "high")] == pytest.approx([2, 2, 2])
        assert [point["at"] for point in row["curve"]["points"]] == [1, 2, 4]
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_neighbours_tell_where_a_constant_part_hides_the_growth(bench, figures):
    from benchmarks.scaling import exponent

    points = [(float(n), figures.exactly(100.0 + n)) for n in (1, 100, 10000)]
    fitted, least, largest = exponent(points)
    assert least == pytest.approx(math.log(200 / 101, 100))
    assert largest == pytest.approx(math.log(10100 / 200, 100))
    assert least < fitted < largest


def test_targets_hold_at_their_limit(figures):
    for target, median, met in (
        ("<= 1.08", 1.08, True),
        ("<= 1.08", 1.081, False),
        (">= 12", 12.0, True),
        (">= 12", 11.9, False),
        ("< 2", 2.0, False),
        ("", 5.0, None),
    ):
        row = figures.Row("", "x", figures.exactly(median), target)
        assert row.met is met
        assert figures.Row.from_json(row.as_json()) == row


@pytest.mark.slow
def test_memory_is_what_a_task_held_and_gave_back(bench):
    from benchmarks.memory import in_child, of_call

    assert 60 < in_child(of_call, torch.zeros, 1 << 24) < 150


@pytest.mark.slow
def test_what_is_cheap_is_measured_tiny(bench, tmp_path, capsys):
    cheap = ["filters", "rotations", "loading", "filter_sizes", "rotation_forms"]
    out = tmp_path / "b.json"
    assert bench.main(["--all", "--tiny", "--only", *cheap, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["parts"]) == cheap
    for row in found["results"]:
        assert 0 < row["low"] <= row["median"] <= row["high"]
    targets = {row["what"]: row["target"] for row in found["results"] if row["target"]}
    assert list(targets.values()) == [">= 12", ">= 6", ">= 3.5", "<= 40", ">= 1.8", ">= 10"]
    assert "targets met: " in capsys.readouterr().out


def test_ratios_say_how_many_times_longer_the_first_takes(bench, monkeypatch):
    from benchmarks import frequency, judged, rotation, teacher

    taken = {"high_pass": 1, "copy": 0.5, "torch_dct": 6, "bound": 2, "eager": 4, "frozen": 3}
    taken |= {"cayley": 8, "matrix_exp": 10, "ours": 100, "channels_last": 5, "adam": 20}

    def fake(candidates, repeats, *options):
        return {name: [float(taken[name])] * repeats for name in candidates}

    for module in (frequency, rotation, judged, teacher):
        monkeypatch.setattr(module, "compare", fake)
    parts = (judged.filters, judged.rotations, judged.home_made, judged.teacher)
    rows = [row for part in parts for row in part(judged.TINY)]
    found = {row.what.split(",")[0]: row for row in rows}
    for what, median in (
        ("torch_dct / filter", 6),
        ("filter / copy of the images", 2),
        ("both rotation updates", 1000),  # ms: Adam's, 20 s for 20 steps
        ("torch orthogonal (cayley) / both rotation updates", 8),
        ("naive loop (cayley) / lower bound", 4),
        ("naive loop (matrix_exp) / lower bound", 5),
        ("frozen teacher / eager", 0.75),
    ):
        assert found[what].spread.median == median
    assert found["torch_dct / filter"].target == ">= 3.5"
    assert found["torch_dct / filter"].met


@pytest.mark.slow
def test_the_whole_matrix_is_measured_tiny(bench, tmp_path, capsys):
    out = tmp_path / "b.json"
    assert bench.main(["--all", "--tiny", "--out", str(out)]) == 0
    assert " failed: " not in capsys.readouterr().err
    found = json.loads(out.read_text())
    assert list(found["parts"]) == [part.__name__ for part in bench.EVERY]
    whats = [row["what"] for row in found["results"]]
    assert len(whats) == len(set(whats))
    assert sum(what.startswith("step / lower bound") for what in whats) == 10 + 17 + 2
    curves = [row["curve"] for row in found["results"] if "curve" in row]
    assert {curve["axis"] for curve in curves} == {
        "batch", "pixels along a side", "d", "workers", "videos",
    }  # fmt: skip
    assert out.with_suffix(".png").exists()
