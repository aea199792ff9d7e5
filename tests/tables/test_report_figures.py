"""The report's figures: what is planted is where it belongs."""

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted_cells import plant_cell

from tokd_lightning.report.build import build
from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.figures import draw_pairs
from tokd_lightning.report.reading import Reader
from tokd_lightning.report.svg import Scale, Svg
from tokd_lightning.tables.paper import paper_table
from tokd_lightning.tables.statistics import Difference

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: Svg) -> ElementTree.Element:
    return ElementTree.fromstring(svg.file())


def words(svg: Svg) -> list[str]:
    return [text.text or "" for text in drawn(svg).iter(f"{SVG}text")]


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in path.attrib["d"][1:].split("L")]


def pair(mean: float | None, low: float = 0, high: float = 0, published: float = -0.5) -> Pair:
    found = None if mean is None else Difference(mean, low, high, (mean,), 10)
    return Pair("FF++ c40, Xception", "AT", published, found, (0,), "" if found else "RGB not run")


def test_axes_place_values_straight_and_logarithmically():
    assert Scale(-2, 2, 100, 300)(1) == 250
    log = Scale(1, 1000, 0, 300, log=True)
    assert (log(1), log(10), log(1000)) == pytest.approx((0, 100, 300))
    assert Scale(79.6, 84.2, 0, 1).ticks(5) == pytest.approx([80, 81, 82, 83, 84])
    assert Scale(-8, 8, 0, 1).ticks(8) == pytest.approx(list(range(-8, 9, 2)))


def test_a_difference_is_a_dot_on_its_interval_and_the_papers_a_diamond():
    svg = draw_pairs([pair(0.01, -0.005, 0.02)])
    root = drawn(svg)
    dot = float(next(root.iter(f"{SVG}circle")).attrib["cx"])
    bars = [line for line in root.iter(f"{SVG}line") if "#0a5cad" in line.attrib["style"]]
    low, high = float(bars[0].attrib["x1"]), float(bars[0].attrib["x2"])
    assert (dot - low) / (high - low) == pytest.approx(15 / 25, abs=0.01)
    diamond = next(root.iter(f"{SVG}polygon")).attrib["points"].split()
    centre = float(diamond[0].split(",")[0])
    zero = dot - (high - low) * 10 / 25
    assert (zero - centre) / (dot - zero) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_the_legend_has_room(rows: int):
    one = pair(0.01, -0.005, 0.02)
    svg = draw_pairs([one._replace(row=f"row {number}") for number in range(rows)])
    assert svg is not None
    for text in drawn(svg).iter(f"{SVG}text"):
        if text.attrib["text-anchor"] == "start":
            assert float(text.attrib["x"]) + 6 * len(text.text or "") <= svg.width + 8
            assert float(text.attrib["y"]) <= svg.height


def test_an_interval_beyond_the_axis_ends_in_an_arrow():
    inside, beyond = draw_pairs([pair(0.01, -0.05, 0.07)]), draw_pairs([pair(0.01, -0.3, 0.07)])
    shapes = [len(list(drawn(svg).iter(f"{SVG}polygon"))) for svg in (inside, beyond)]
    assert shapes[1] == shapes[0] + 1


def test_a_mean_is_never_beyond_the_axis():
    root = drawn(draw_pairs([pair(0.24, 0.2, 0.28)]))
    dots = [float(e.attrib["cx"]) for e in root.iter(f"{SVG}circle")]
    assert max(dots) < float(root.attrib["viewBox"].split()[2]) - 40


def test_what_is_not_run_says_so_in_its_place():
    assert "RGB not run" in words(draw_pairs([pair(None)]))
    assert draw_pairs([]) is None


def test_figure_3_has_a_logarithmic_axis_and_marks_what_is_not_run(tmp_path: Path):
    table = paper_table("figure3")
    cells = [entry.cell for entry in table.entries if entry.cell.data == "ffpp"]
    for number, cell in enumerate(cells[:3]):  # alpha 1, 10, 50
        for seed in range(2):
            accuracy = 0.8 + 0.01 * number + 0.001 * seed
            plant_cell(tmp_path, replace(cell, seed=seed), accuracy, scored=False)
    svg = build([table], Reader(tmp_path)).figures["figure3"]
    (path,) = drawn(svg).iter(f"{SVG}path")
    line = points(path)
    assert len(line) == 3
    (a, low), (b, middle), (c, high) = line
    assert (c - b) / (b - a) == pytest.approx(math.log10(5), abs=0.01)
    assert low - middle == pytest.approx(middle - high, abs=0.2)
    assert words(svg).count("×") == 4 + 7
    assert {"1", "10", "50", "100", "200", "500", "1000"} <= set(words(svg))


def test_figure_4_draws_the_cosines_before_and_after_by_d(tmp_path: Path):
    table = paper_table("figure4")
    without, small, *_ = table.cells
    for cell in (without, small):
        plant_cell(tmp_path, cell, 0.8, curves=True, scored=False)
    (tmp_path / replace(small, seed=1).name).mkdir()
    reader = Reader(tmp_path)
    svg = build([table], reader).figures["figure4"]
    lines = list(drawn(svg).iter(f"{SVG}path"))
    # Without rotation there is one curve; with it two per part, before and after.
    assert len(lines) == 1 + 4
    assert sum("dasharray" in line.attrib["style"] for line in lines) == 3
    assert all(len(points(line)) <= 80 for line in lines)
    rotated = next(points(line) for line in lines if "dasharray" not in line.attrib["style"])
    assert rotated[-1][1] < rotated[0][1] - 20  # it rises
    assert words(svg).count("not run") == 2 * 4
    assert "no rotation" in words(svg)


def test_broken_curves_are_named_and_the_rest_is_drawn(tmp_path: Path):
    table = paper_table("figure4")
    for cell in table.cells[:2]:
        plant_cell(tmp_path, cell, 0.8, curves=True, scored=False)
    broken = tmp_path / table.cells[0].name / "metrics.csv"
    broken.write_text("epoch,step,gradient/cosine_full_before\nx,y,z\n")
    report = build([table], Reader(tmp_path))
    assert [str(broken) in line for line in report.warnings] == [True]
    assert len(list(drawn(report.figures["figure4"]).iter(f"{SVG}path"))) == 4


def test_text_cannot_break_a_drawing():
    svg = Svg(100, 50, 'a "<b>" & c')
    svg.text((1, 2), "<script>&")
    assert "<script>" not in svg.inline()
    assert drawn(svg).find(f"{SVG}title").text == 'a "<b>" & c'
    assert not re.search(r"var\(", svg.file())
