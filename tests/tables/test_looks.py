"""One name and one look per network, whatever figure it is in and whatever stands beside it."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from planted import curves
from planted_evaluations import plant_evaluated

from tokd_lightning.evaluation.robustness_pictures import robustness_png
from tokd_lightning.explain.bands import draw_bands
from tokd_lightning.looks import looks, network, short_labels
from tokd_lightning.report.curves import draw_gradients, draw_training

FOUR = ["Teacher", "Vanilla", "TOKD rgb", "TOKD both"]
METHODS = ("at", "pkt", "vid", "sp", "fitnet", "tokd")
TABLE_3 = ["vanilla-none", *(f"{m}-{b}" for m in METHODS for b in ("rgb", "both"))]


def cell(kind: str, **more):
    method, _, branches = kind.partition("-")
    role = "teacher" if method == "teacher" else "student"
    return {"method": method, "branches": branches, "role": role, "seed": 0, "data": "d"} | more


def test_a_network_has_one_colour_in_every_company():
    for count in (1, 2, 3, 4):
        for some in combinations(FOUR, count):
            assert looks(some) == {label: looks(FOUR)[label] for label in some}
    assert len({its.colour for its in looks(FOUR).values()}) == 4


def test_the_methods_of_table_3_can_be_told_apart():
    labels = [network(cell(kind)) for kind in TABLE_3]
    shown = looks(labels, marked=True)
    assert len({(its.colour, its.marker) for its in shown.values()}) == len(TABLE_3)
    assert all(looks([label])[label] == shown[label] for label in labels)


def test_seeds_of_one_network_in_one_figure_have_colours_of_their_own():
    shown = looks([f"TOKD both, seed {seed}" for seed in range(3)])
    assert len({its.colour for its in shown.values()}) == 3


def test_labels_say_the_network_and_what_differs():
    one = {"run": "a", "cell": cell("tokd-both", backbone="resnet18_thin")}
    two = {"run": "b", "cell": cell("vanilla-none", backbone="resnet18_thin")}
    assert short_labels([one, two]) == ["TOKD both", "Vanilla"]
    three = {"run": "c", "cell": cell("tokd-both", backbone="resnet18_thin", seed=1)}
    labels = ["TOKD both, seed 0", "Vanilla, seed 0", "TOKD both, seed 1"]
    assert short_labels([one, two, three]) == labels
    assert short_labels([one, {**one, "run": "d"}, {"run": "old"}]) == ["a", "d", "old"]


BOTH = {"Teacher": "teacher-both", "TOKD both": "tokd-both"}


def bands(_):
    rows = [("none", 0, 2), ("remove", 0, 1), ("remove", 1, 2), ("low-pass", 0, 1)]
    rows += [("high-pass", 1, 2), ("mean", 0, 0)]
    table = pd.DataFrame(rows, columns=["filter", "low", "high"])
    for name in ("auc", "balanced_acc", "p_fake_real", "p_fake_fake", "energy_real", "energy_fake"):
        table[name] = np.linspace(0.9, 0.5, len(table))
    draw_bands(dict.fromkeys(BOTH, table), "bands").savefig("/dev/null", format="png")


def robustness(folder):
    records = []
    for name, kind in BOTH.items():
        place = plant_evaluated(folder, name, 1.0)
        record = json.loads((place / "robustness.json").read_text())
        records.append(record | {"cell": cell(kind, backbone="resnet18_thin")})
    robustness_png(records, "robustness")


FIGURES = {
    "curves.png": lambda folder: draw_training(
        {name: pd.DataFrame(curves(kind)) for name, kind in BOTH.items()}, folder / "curves.png"
    ),
    "gradients.png": lambda folder: draw_gradients(
        {name: pd.DataFrame(curves(kind)) for name, kind in BOTH.items()}, folder / "gradients.png"
    ),
    "bands.png": bands,
    "robustness.png": robustness,
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_figure_names_and_draws_tokd_both_alike(draw, tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    (tmp_path / "curves.png").touch()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: None)
    draw(tmp_path)
    [figure] = drawn
    legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
    named = {
        text.get_text(): to_hex(line.get_color())
        for legend in legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=False)
    }
    assert named["TOKD both"] == "#d55e00"
    assert named.get("Teacher", "#000000") == "#000000"
