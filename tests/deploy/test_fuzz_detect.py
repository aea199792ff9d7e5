"""Mutated files through `tokd detect`: no crash, no hang, bounded memory."""

import io
import json
import resource
import time

import numpy as np
import pytest
from PIL import Image

from tokd_lightning.cli import main
from tokd_lightning.deploy.files import IMAGES, VIDEOS

LIMIT = 20.0


def seeds(mixed):
    """Small good files of all kinds."""
    image = Image.open(mixed / "dark.png").convert("RGB").resize((96, 96))
    found = {".mp4": (mixed / "dark.mp4").read_bytes()}
    for suffix, how in {
        ".jpg": {"format": "JPEG"},
        ".jpeg": {"format": "JPEG", "progressive": True},
        ".png": {"format": "PNG"},
        ".webp": {"format": "WEBP"},
        ".bmp": {"format": "BMP"},
        ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
        ".gif": {"format": "GIF"},
    }.items():
        content = io.BytesIO()
        image.save(content, **how)
        found[suffix] = content.getvalue()
    return found


def mutate(content, rng):
    """Flip, cut, repeat, overwrite: mostly in the head, where the sizes stand."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        end = len(data) if rng.random() < 0.8 else min(len(data), 64)
        place = int(rng.integers(0, max(1, end)))
        match int(rng.integers(0, 6)):
            case 0:
                data[place : place + 1] = rng.bytes(1)
            case 1:
                data[place : place + 4] = b"\xff\xff\xff\x7f"
            case 2:
                data[place : place + 2] = b"\x00\x00"
            case 3:
                del data[place : place + int(rng.integers(1, 200))]
            case 4:
                data[place:place] = rng.bytes(int(rng.integers(1, 50)))
            case 5:
                data[place:] = data[place : len(data) - int(rng.integers(0, len(data) // 2 + 1))]
    return bytes(data)


@pytest.mark.parametrize(
    "count", [pytest.param(48, id="few"), pytest.param(1000, id="all", marks=pytest.mark.slow)]
)
def test_mutated_files_cost_a_line_each(count, model, mixed, tmp_path, capsys):
    rng = np.random.default_rng(20)
    good = list(seeds(mixed).items())
    for number in range(count):
        suffix, content = good[number % len(good)]
        assert suffix in (*IMAGES, *VIDEOS)
        (tmp_path / f"{number:04d}{suffix}").write_bytes(mutate(content, rng))
    given = ["--annotate", str(tmp_path / "out"), "--workers", "2", "--time-limit", str(LIMIT)]
    started = time.monotonic()
    assert main(["detect", str(model), str(tmp_path), *given, "--json"]) == 0
    assert time.monotonic() - started < 30 + count
    said = json.loads(capsys.readouterr().out)
    assert len(said["files"]) == count
    assert set(said["counts"]) <= {"scored", "no_face", "unreadable", "too_large", "too_slow"}
    assert said["counts"]["unreadable"] >= count / 8
    assert said["counts"]["scored"] >= count / 20
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(said["counts"], f"{time.monotonic() - started:.1f} s, {largest:.0f} MB")
    assert largest < 2000
