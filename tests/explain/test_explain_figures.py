import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tokd_lightning.explain.bands import draw_bands
from tokd_lightning.explain.cams import Cams, columns_of, draw_cams, read_maps, together, write_maps
from tokd_lightning.explain.drawing import save
from tokd_lightning.explain.rfam import fake_less_real


def cams(paths=("a", "b", "c"), branch="student"):
    rows = pd.DataFrame({"path": paths, "method": "real", "video": "v", "frame": 1, "label": 0})
    rows["p_fake"] = np.linspace(0.2, 0.9, len(paths))
    values = np.arange(4.0 * len(paths), dtype=np.float32).reshape(-1, 2, 2) - 3
    images = np.full((len(paths), 8, 8, 3), 120, np.uint8)
    return Cams(rows, images, [(branch, 32)], [values])


def pixels(figure):
    page = io.BytesIO()
    figure.savefig(page, format="rgba", dpi=50)
    return np.frombuffer(page.getvalue(), np.uint8).reshape(-1, 4)[:, :3].astype(int)


def coloured(figure):
    shown = pixels(figure)
    return int((shown.max(1) - shown.min(1) > 60).sum())


@pytest.mark.slow
def test_equal_figures_are_equal_files(tmp_path):
    for name in ("one", "two"):
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
        assert save(figure, tmp_path / name) == [f"{name}.png", f"{name}.pdf"]
    for suffix in ("png", "pdf"):
        one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_maps_are_read_as_they_were_written(tmp_path):
    ours = cams()
    write_maps(tmp_path / "gradcam.npz", ours)
    found = read_maps(tmp_path / "gradcam.npz")
    pd.testing.assert_frame_equal(found.rows, ours.rows)
    assert found.names == ours.names
    np.testing.assert_array_equal(found.maps[0], ours.maps[0])
    np.testing.assert_array_equal(found.images, ours.images)


def test_what_speaks_for_fake_and_for_real_has_one_scale():
    _, fake, real = columns_of(cams())
    assert fake.top == real.top == 8
    np.testing.assert_array_equal(fake.heat, -real.heat)


def test_heat_is_drawn_where_it_is_above_nothing_alone():
    frame, fake, _ = columns_of(cams())
    rows = cams().rows.assign(p_fake=0.1)
    cold = fake._replace(heat=-np.abs(fake.heat))
    assert coloured(draw_cams(rows, cams().images, [frame, fake], "")) > 500 + coloured(
        draw_cams(rows, cams().images, [frame, cold], "")
    )


def test_runs_are_put_together_on_the_frames_that_all_have():
    one, two = cams(("a", "b", "c")), cams(("c", "x", "a"), "rgb")
    rows, images, columns = together([("One", one), ("Two", two)])
    assert rows["path"].tolist() == ["a", "c"]
    assert len(images) == 2
    assert [column.title.split("\n")[0] for column in columns] == ["frame", "One", "Two"]
    np.testing.assert_array_equal(columns[1].heat, one.maps[0][[0, 2]])
    np.testing.assert_array_equal(columns[2].heat, two.maps[0][[2, 0]])
    np.testing.assert_allclose(columns[2].p_fake, [0.9, 0.2])
    assert together([("One", one), ("Two", cams(("x", "y", "z")))])[0].empty


def test_fake_less_real_weighs_every_frame_alike():
    values = np.array([[[0.1]], [[0.5]], [[0.9]]])
    methods = {"real": 7, "Deepfakes": 1, "FaceSwap": 3}
    difference = fake_less_real(values, methods, [False, True, True])
    assert difference[0, 0] == pytest.approx((0.5 + 3 * 0.9) / 4 - 0.1)
    assert np.isnan(fake_less_real(values[1:], {"a": 1, "b": 1}, [True, True])).all()


def test_curves_stand_over_their_bands():
    edges = [0, 0.5, 1, 2]
    kinds = [("none", 0, 2), ("remove", 0, 0.5), ("low-pass", 0, 0.5), ("high-pass", 0.5, 2)]
    kinds += [("remove", 0.5, 1), ("low-pass", 0, 1), ("high-pass", 1, 2), ("remove", 1, 2)]
    table = pd.DataFrame([*kinds, ("mean", 0, 0)], columns=["filter", "low", "high"])
    table["auc"] = [0.9, 0.8, 0.55, 0.85, 0.7, 0.75, 0.65, 0.6, 0.5]
    for name in ("balanced_acc", "p_fake_real", "p_fake_fake", "energy_real", "energy_fake"):
        table[name] = 0.5
    axes = draw_bands({"run": table}, "", [0.75]).axes
    lines = [next(x for x in panel.lines if x.get_label() == "run") for panel in axes[:3]]
    assert [line.get_xydata().tolist() for line in lines] == [
        [[0.5, 0.8], [1.5, 0.7], [2.5, 0.6]],
        [[0, 0.5], [1, 0.55], [2, 0.75], [3, 0.9]],
        [[0, 0.9], [1, 0.85], [2, 0.65], [3, 0.5]],
    ]
    assert [text.get_text() for text in axes[-1].get_xticklabels()] == [f"{e:.2g}" for e in edges]
    assert axes[0].get_ylim() == pytest.approx((0.4, 1.02))
    assert axes[0].lines[0].get_xdata()[0] == 1.5  # the cutoff, in the middle of its band
