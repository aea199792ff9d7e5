from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from planted import AUC
from planted import curves as rows

from tokd_lightning.errors import TokdError
from tokd_lightning.report.curves import draw_gradients, draw_training, read_curves

LABELS = dict(zip(AUC, ["Teacher", "Vanilla", "TOKD rgb", "TOKD both"], strict=True))
NOTHING = pd.DataFrame({"epoch": [], "step": []}, dtype=int)


def curves(kind: str) -> pd.DataFrame:
    return pd.DataFrame(rows(kind))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args: object, **kwargs: object) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def four() -> dict[str, pd.DataFrame]:
    return {label: curves(kind) for kind, label in LABELS.items()}


def panel(figure: Figure, name: str) -> Axes:
    return next(axes for axes in figure.axes if name in (axes.get_ylabel(), axes.get_title()))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_training_curves_have_a_panel_per_quantity_and_a_line_per_run(
    tmp_path: Path, drawn: list[Figure]
):
    assert draw_training(four(), tmp_path / "curves.png", "synthetic mini-FF++")
    (figure,) = drawn
    lines = {axes.get_ylabel(): len(axes.lines) for axes in figure.axes}
    assert lines == {
        "validation AUC": 4,
        "validation accuracy": 4,
        "validation cross-entropy": 4,
        "training cross-entropy": 4,
        "training loss, RGB branch": 1,
        "training loss, frequency branch": 1,
    }
    assert all(axes.get_xlabel() == "epoch" for axes in figure.axes)
    assert legend(figure) == list(LABELS.values())
    assert "synthetic mini-FF++" in figure.get_suptitle()
    x, y = panel(figure, "validation AUC").lines[0].get_data()
    assert list(x) == [1, 2]
    np.testing.assert_allclose(y, [0.7, 0.8])


def test_students_show_their_cross_entropy_and_the_teacher_its_loss_as_epoch_means(
    tmp_path: Path, drawn: list[Figure]
):
    draw_training(four(), tmp_path / "curves.png")
    teacher, vanilla, *_ = panel(drawn[0], "training cross-entropy").lines
    np.testing.assert_allclose(teacher.get_ydata(), [2, 5])
    np.testing.assert_allclose(vanilla.get_ydata(), [0.1, 0.4])


def test_seeds_of_one_method_share_a_colour_and_differ_in_style(
    tmp_path: Path, drawn: list[Figure]
):
    runs = {f"{kind}, seed {s}": curves("vanilla-none") for kind in ("A", "B") for s in (0, 1)}
    draw_training(runs, tmp_path / "curves.png")
    lines = panel(drawn[0], "validation AUC").lines
    colours, styles = [
        [f(x) for x in lines] for f in (lambda x: x.get_color(), lambda x: x.get_ls())
    ]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert styles[0] == styles[2] != styles[1] == styles[3]
    assert legend(drawn[0]) == ["A", "B", "seed 0", "seed 1"]


def test_gradients_show_the_cosine_before_and_after_rotation_of_runs_that_have_it(
    tmp_path: Path, drawn: list[Figure]
):
    assert draw_gradients(four(), tmp_path / "gradients.png", "synthetic mini-FF++")
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["rotated entries", "all entries"]
    assert legend(figure) == ["TOKD both", "before rotation", "after rotation"]
    assert "synthetic mini-FF++" in figure.get_suptitle()
    for axes, start in zip(figure.axes, (0.1, 0.2), strict=True):
        _zero, _, before, raw, after = axes.lines
        np.testing.assert_allclose(before.get_ydata(), start)
        assert list(raw.get_xdata()) == [0, 1, 2, 3, 4, 5]
        np.testing.assert_allclose(raw.get_ydata(), start + 0.05 * np.arange(6))
        assert raw.get_alpha() < 1
        # A centred mean over five steps leaves the middle of a straight line and pulls in its ends.
        np.testing.assert_allclose(after.get_ydata()[2:4], raw.get_ydata()[2:4])
        assert after.get_ydata()[0] > raw.get_ydata()[0]
        assert (before.get_linestyle(), after.get_linestyle()) == ("--", "-")


def test_without_rotation_there_is_one_panel(tmp_path: Path, drawn: list[Figure]):
    table = curves("tokd-both")
    table = table[[column for column in table if "rotated" not in column]]
    draw_gradients({"TOKD both": table}, tmp_path / "gradients.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["all entries"]


def test_a_step_that_a_resumed_run_repeats_counts_once_and_the_last_time(
    tmp_path: Path, drawn: list[Figure]
):
    table = curves("tokd-both")
    again = table[table["step"] == 5].assign(**{"gradient/cosine_full_after": 0.9})
    draw_gradients({"TOKD both": pd.concat([table, again])}, tmp_path / "gradients.png")
    raw = panel(drawn[0], "all entries").lines[3]
    assert list(raw.get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert raw.get_ydata()[-1] == 0.9


def test_nothing_to_draw_leaves_no_file(tmp_path: Path):
    path = tmp_path / "figure.png"
    for runs in ({}, {"new": NOTHING}):
        assert not draw_training(runs, path)
        assert not draw_gradients(runs, path)
    assert not draw_gradients({"Vanilla": curves("vanilla-none")}, path)
    assert not any(tmp_path.iterdir())


def test_figures_are_whole_pngs_with_something_on_them(tmp_path: Path):
    for draw, name in ((draw_training, "curves.png"), (draw_gradients, "gradients.png")):
        assert draw(four(), tmp_path / "deep" / name)
        pixels = matplotlib.image.imread(tmp_path / "deep" / name)
        assert pixels.shape[1] >= 1500
        assert 0.01 < (pixels[..., :3].min(-1) < 0.9).mean() < 0.3
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"curves.png", "gradients.png"}


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TokdError, match=r"curves\.png cannot be written"):
        draw_training(four(), tmp_path / "file" / "curves.png")


def test_a_run_that_has_not_logged_yet_has_no_curves(tmp_path: Path):
    assert read_curves(tmp_path).empty
    (tmp_path / "metrics.csv").write_text("")
    assert read_curves(tmp_path).empty


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "epoch,step\nx,y\n", "epoch,step\n1,2,3\n1\n4,5,6,7"]
)
def test_a_table_of_something_else_is_one_clear_error(tmp_path: Path, text: str):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(TokdError, match="not a table of epochs and steps"):
        read_curves(tmp_path)
