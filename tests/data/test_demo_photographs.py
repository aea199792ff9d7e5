import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from tokd_lightning.data.blending.points import mirrored
from tokd_lightning.demo import make_demo
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.demo.photographs import list_photographs
from tokd_lightning.errors import TokdError

SMALL = {"identities": 6, "frames": 3, "size": 64, "workers": 1}


def videos(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / folder / "c23" / "frames").iterdir())


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    cast = ProceduralCast(5, 200)
    with (tmp_path / "points.csv").open("w", newline="") as file:
        for number in range(7):
            portrait = cast.portrait(number)
            picture = cv2.copyMakeBorder(portrait.image, 0, 40, 0, 0, cv2.BORDER_REFLECT)
            cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
            csv.writer(file).writerow([f"{number}.png", *portrait.points.ravel().round(2)])
    return folder, tmp_path / "points.csv"


@pytest.mark.slow
def test_photographs_become_a_demo_of_all_of_them_made_even(photographs, tmp_path):
    faces, landmarks = photographs
    small = SMALL | {"identities": None, "quality": ["c23"]}
    make_demo(tmp_path / "mini", **small, faces=faces, landmarks=landmarks)
    assert len(videos(tmp_path / "mini", "original_sequences/youtube")) == 6
    assert len(videos(tmp_path / "mini", "manipulated_sequences/Face2Face")) == 6
    assert "photographs" in (tmp_path / "mini" / "SYNTHETIC.txt").read_text()
    for number in range(1, 7):
        (faces / f"{number}.png").write_bytes((faces / "0.png").read_bytes())
    with pytest.raises(TokdError, match="another source"):
        make_demo(tmp_path / "mini", **small, faces=faces, landmarks=landmarks)


def test_photographs_that_cannot_be_used_are_named(photographs, tmp_path):
    faces, landmarks = photographs
    both = {"faces": faces, "landmarks": landmarks}
    with pytest.raises(TokdError, match=r"holds 7 photographs, 8 identities"):
        make_demo(tmp_path / "mini", **SMALL | {"identities": 8}, **both)
    (faces / "extra.jpg").write_bytes(b"")
    with pytest.raises(TokdError, match=r"no line for extra\.jpg"):
        make_demo(tmp_path / "mini", **SMALL, **both)
    (faces / "extra.jpg").unlink()
    for content in (b"", b"no image"):
        for name in range(7):
            (faces / f"{name}.png").write_bytes(content)
        with pytest.raises(TokdError, match=r"\d\.png cannot be read as an image"):
            make_demo(tmp_path / "mini", **SMALL, **both)
    landmarks.write_text(landmarks.read_text() + "7.png,1,2,three\n")
    with pytest.raises(TokdError, match="line 8: expected a file name and 68 or 189"):
        make_demo(tmp_path / "mini", **SMALL, **both)
    landmarks.write_bytes((faces / "0.png").read_bytes() + b"\xff\xfe")
    with pytest.raises(TokdError, match=r"points\.csv is no CSV in UTF-8"):
        make_demo(tmp_path / "mini", **SMALL, **both)
    landmarks.unlink()
    with pytest.raises(TokdError, match="does not exist"):
        make_demo(tmp_path / "mini", **SMALL, **both)
    assert not (tmp_path / "mini").exists()


def test_the_189_points_of_the_london_set_become_68(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    row = [str(i // 2 + 1000 * (i % 2)) for i in range(2 * 189)]
    (tmp_path / "points.csv").write_text(",".join(["a.jpg", *row]) + "\n")
    [(_, points)] = list_photographs(tmp_path, tmp_path / "points.csv")
    assert points.shape == (68, 2)
    assert np.array_equal(points[:, 1], points[:, 0] + 1000)
    chin, bridge, corners = points[8, 0], points[27, 0], points[[36, 45, 48, 54], 0]
    assert (chin, bridge, list(corners)) == (129, 53, [18, 27, 87, 93])


def test_mirroring_keeps_each_point_s_meaning():
    points = ProceduralCast(0, 200).portrait(0).points
    flipped = mirrored(points, 200)
    assert np.allclose(mirrored(flipped, 200), points)
    assert np.abs(flipped - points).max() < 6  # a procedural face is nearly symmetric
    aside = np.array([10, 0])
    assert np.allclose(mirrored(points + aside, 200), flipped - aside)
