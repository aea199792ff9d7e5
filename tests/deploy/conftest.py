"""A run that finds bright faces fake, its export, and files for it to score."""

import shutil

import numpy as np
import pytest
from evaluated import LONG, SHORT, brighten, fit_and_test
from PIL import Image
from test_cli import TINY_STUDENT, TINY_TEACHER
from trees import make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.demo.video import encode


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Frames of the size that the run trains on, so that nothing is resized."""
    root = make_ffpp(tmp_path_factory.mktemp("data"), size=64)
    return brighten(root, "manipulated_sequences")


@pytest.fixture(scope="session")
def run(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return fit_and_test("demo_vanilla", data, runs, *TINY_STUDENT, *LONG)


@pytest.fixture(scope="session")
def teacher(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return fit_and_test("demo_teacher", data, runs, *TINY_TEACHER, *SHORT)


@pytest.fixture(scope="session")
def model(run, tmp_path_factory):
    """Both formats; do not write into it."""
    out = tmp_path_factory.mktemp("exported") / "model"
    given = ["export", str(run), "--format", "onnx,safetensors", "--out", str(out)]
    given += ["--detector", "haar"]
    assert main(given) == 0
    return out


@pytest.fixture
def copied(model, tmp_path):
    """An export that a test may write into."""
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture(scope="session")
def faces():
    """Two drawn faces, one darkened and one brightened, 256 px, RGB."""
    cast = ProceduralCast(0, 256)
    drawn = [np.asarray(cast.portrait(index).image).astype(float) for index in (0, 2)]
    return [
        np.clip(face * factor + shift, 0, 255).astype(np.uint8)
        for face, factor, shift in zip(drawn, (0.7, 0.7), (0, 75), strict=True)
    ]


@pytest.fixture(scope="session")
def mixed(faces, tmp_path_factory):
    """A folder of images and videos: dark ones are real, bright ones fake. Do not write into it."""
    root = tmp_path_factory.mktemp("mixed")
    for name, face in zip(("dark", "bright"), faces, strict=True):
        Image.fromarray(face).save(root / f"{name}.png")
        Image.fromarray(face).save(root / f"{name}.jpg", quality=95)
        Image.fromarray(face).save(root / f"{name}.webp", quality=95)
        encode(np.stack([face] * 6), root / f"{name}.mp4", "c23")
    (root / "deeper").mkdir()
    Image.fromarray(faces[1]).save(root / "deeper" / "bright.png")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_text("nor this")
    return root
