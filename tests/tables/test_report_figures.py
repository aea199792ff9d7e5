"""The report's figures: what is planted is where it belongs."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure
from planted_cells import plant_cell

from tokd_lightning.report.build import build
from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.figures import alpha_figure, cosine_figure, pairs_figure
from tokd_lightning.report.reader import Reader
from tokd_lightning.report.svg import DARK, GROUND, LIGHT, OURS, PAPER, STYLE, Svg
from tokd_lightning.tables.paper import paper_table
from tokd_lightning.tables.statistics import Difference


def pair(mean: float | None, low: float = 0, high: float = 0, published: float = -0.5) -> Pair:
    found = None if mean is None else Difference(mean, low, high, (mean,), 10)
    return Pair("FF++ c40, Xception", "AT", published, found, (0,), "" if found else "RGB not run")


def marks(figure: Figure, marker: str) -> list[float]:
    """Where markers of a kind are on the x axis of the first panel."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() == marker]
    return [float(x) for line in lines for x in line.get_xdata()]


def test_a_difference_is_a_dot_on_its_interval_and_the_papers_a_diamond():
    figure = pairs_figure([pair(0.01, -0.005, 0.02)])
    assert marks(figure, "o") == pytest.approx([1])
    assert marks(figure, "|") == pytest.approx([-0.5, 2])
    assert marks(figure, "D") == pytest.approx([-0.5])


def test_an_interval_beyond_the_axis_ends_in_an_arrow_at_its_end():
    inside, beyond = pairs_figure([pair(0.01, -0.05, 0.07)]), pairs_figure([pair(0.01, -0.3, 0.07)])
    assert (marks(inside, "<"), marks(beyond, "<")) == ([], [-8])
    assert beyond.axes[0].get_xlim() == (-8, 8)


def test_a_mean_is_never_beyond_the_axis():
    assert pairs_figure([pair(0.24, 0.2, 0.28)]).axes[0].get_xlim()[1] > 24


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_every_text_is_inside_the_figure(rows: int):
    one = pair(0.01, -0.005, 0.02)
    figure = pairs_figure([one._replace(row=f"row {number}") for number in range(rows)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    boxes += [axes.title.get_window_extent() for axes in figure.axes]
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert all(whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)


def test_what_is_not_run_says_so_in_its_place():
    figure = pairs_figure([pair(None)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["RGB not run"]
    assert pairs_figure([]) is None


def test_figure_3_has_a_logarithmic_axis_and_marks_what_is_not_run(tmp_path: Path):
    table = paper_table("figure3")
    cells = [entry.cell for entry in table.entries if entry.cell.data == "ffpp"]
    for number, cell in enumerate(cells[:3]):  # alpha 1, 10, 50
        for seed in range(2):
            accuracy = 0.8 + 0.01 * number + 0.001 * seed
            plant_cell(tmp_path, replace(cell, seed=seed), accuracy, scored=False)
    [filled] = build([table], Reader(tmp_path)).tables
    figure = alpha_figure(filled)
    ours, other = figure.axes
    assert ours.get_xscale() == "log"
    [bars] = ours.containers
    means, _, [spread] = bars
    assert list(means.get_xdata()) == [1, 10, 50]
    assert list(means.get_ydata()) == pytest.approx([80.05, 81.05, 82.05])
    low, high = spread.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.1 / 2**0.5)  # sd of 80.0 and 80.1
    crosses = [len(axes.lines[-1].get_xdata()) for axes in (ours, other)]
    assert crosses == [4, 7]
    ticks = [label.get_text() for label in ours.get_xticklabels()]
    assert ticks == ["1", "10", "50", "100", "200", "500", "1000"]


def test_figure_4_draws_the_cosines_before_and_after_by_d(tmp_path: Path):
    table = paper_table("figure4")
    without, small, *_ = table.cells
    for cell in (without, small):
        plant_cell(tmp_path, cell, 0.8, curves=True, scored=False)
    (tmp_path / replace(small, seed=1).name).mkdir()
    reader = Reader(tmp_path)
    [filled] = build([table], reader).tables
    figure = cosine_figure(filled, reader)
    lines = [
        [line for line in axes.lines if line.get_color() in (OURS, PAPER)] for axes in figure.axes
    ]
    # Without rotation there is one curve; with it two per part, before and after.
    assert [len(its) for its in lines] == [0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0]
    assert all(len(line.get_xdata()) <= 80 for its in lines for line in its)
    before, after = lines[1]
    assert (before.get_color(), after.get_color()) == (PAPER, OURS)
    assert after.get_ydata()[-1] > after.get_ydata()[0] + 0.1  # it rises
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said.count("not run") == 2 * 4
    assert "no rotation" in said


def test_broken_curves_are_named_and_the_rest_is_drawn(tmp_path: Path):
    table = paper_table("figure4")
    for cell in table.cells[:2]:
        plant_cell(tmp_path, cell, 0.8, curves=True, scored=False)
    broken = tmp_path / table.cells[0].name / "metrics.csv"
    broken.write_text("epoch,step,gradient/cosine_full_before\nx,y,z\n")
    report = build([table], Reader(tmp_path))
    assert [str(broken) in line for line in report.warnings] == [True]
    assert report.figures["figure4"].file().count(OURS) > 2


def drawn(text: str = "$x$ <script>&") -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], marker="o", color=OURS)
        axes.set_title(text)
    return Svg(figure, "some", 'a "<b>" & c')


def test_text_cannot_break_a_drawing():
    svg = drawn()
    for text in (svg.inline(), svg.file()):
        assert "<script>" not in text
        root = ElementTree.fromstring(text)
        assert root[0].text == 'a "<b>" & c'
        assert "$x$ <script>&" in [node.text for node in root.iter() if node.tag.endswith("text")]


def test_figures_of_one_page_share_no_id_and_no_style():
    one, other = drawn(), Svg(Figure(), "other", "")
    ids = [set(re.findall(r'id="([^"]+)"', svg.inline())) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', one.inline()))
    assert used == ids[0]
    assert "<style" not in one.inline()


def test_colours_are_the_pages_inline_and_fixed_in_a_file():
    svg = drawn()
    assert f"var(--ours, {OURS})" in svg.inline()
    assert "var(" not in svg.file()
    assert GROUND in svg.file()
    dark = svg.file(dark=True)
    assert (DARK["ours"] in dark, OURS in dark, DARK["ground"] in dark) == (True, False, True)
    assert DARK.keys() == LIGHT.keys()
