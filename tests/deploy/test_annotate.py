"""Pictures of `tokd detect --annotate`: colours, places and the frame that is shown."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokd_lightning.deploy import annotate
from tokd_lightning.deploy.detector import Heatmaps
from tokd_lightning.deploy.found import Look
from tokd_lightning.deploy.record import open_model
from tokd_lightning.deploy.report import FrameScore, Verdict


def test_red_speaks_for_fake_and_blue_for_real_in_the_middle_alone(model):
    about = open_model(model)._replace(size=64, crop=32)
    grey = np.full((64, 64, 3), 128, np.uint8)
    for sign, warm in ((1.0, True), (-1.0, False)):
        heat = np.array([[0.0, sign], [0.0, sign]])  # to the right
        shown = np.asarray(annotate.heated(grey, heat, about), int)
        red_over_blue = shown[..., 0] - shown[..., 2]
        side = len(shown)
        inside = red_over_blue[side // 2, side * 5 // 8 : side * 11 // 16]
        assert (inside > 40).all() if warm else (inside < -40).all()
        assert abs(red_over_blue[side // 2, side * 9 // 32]) < 20
        assert (shown[: side // 5] == 128).all()
        assert (shown[:, side * 4 // 5 :] == 128).all()


@pytest.mark.parametrize(
    ("box", "free"),
    [((40, 0, 8, 8), True), ((40, 20, 8, 8), True), ((0, 40, 8, 8), True), ((0, 0, 48, 48), False)],
)
def test_the_score_lies_beside_the_face(box, free):
    """At the edges of a picture, too: of a small face it would hide the eyes."""
    look = Look(0, 0.0, box, *[np.zeros((48, 48, 3), np.uint8)] * 2, 1.0)
    verdict = Verdict(Path("a.png"), "image", "scored", 0.9, 0.5, [FrameScore(0, None, 0.9, box)])
    shown = np.asarray(annotate._with_box(look, verdict), int)
    factor = len(shown) // 48
    x, y, across, along = (factor * part for part in box)
    inside = shown[y + 4 : y + along - 4, x + 4 : x + across - 4]
    assert (inside.max() == 0) == free
    assert (shown.sum(-1) == 3 * 255).any()  # white digits


def test_of_a_video_the_face_of_the_highest_score_is_shown(model, tmp_path, monkeypatch):
    about, drawn = open_model(model), []
    size = about.size
    looks = [
        Look(
            n,
            n / 25,
            (8, 8, 32, 32),
            *[np.full((s, s, 3), 20 * n, np.uint8) for s in (size, 48)],
            1.0,
        )
        for n in range(4)
    ]
    scores = [FrameScore(n, n / 25, p, (8, 8, 32, 32)) for n, p in enumerate((0.2, 0.3, 0.9, 0.1))]
    verdict = Verdict(Path("a.mp4"), "video", "scored", 0.375, 0.5, scores)

    def heated(face, heat, about):
        drawn.append((int(face[0, 0, 0]), float(heat[0, 0])))
        return Image.new("RGB", (480, 480))

    monkeypatch.setattr(annotate, "heated", heated)
    maps = np.arange(4, dtype=np.float32)[:, None, None]
    written = annotate.annotate_file(tmp_path, verdict, Heatmaps(looks, maps), about, set())
    assert drawn == [(40, 2.0)]
    assert [path.name for path in written] == ["a.mp4.png", "a.mp4_scores.png"]
    with Image.open(written[0]) as sheet:
        box = np.asarray(sheet, int)[240, 80]  # the left edge of the box, ten times as large
    assert tuple(box) == pytest.approx(annotate._COLOURS["real"], abs=2)
