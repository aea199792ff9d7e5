"""Mutated files through `tokd detect`: no crash, no hang, bounded memory."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

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


# A process counts the memory of the one it was forked from as its own: a small one stands between.
BETWEEN = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr)
sys.exit(code)
"""


def detect(*given):
    """Run it in a process of its own; returns what it printed, and the most megabytes of one."""
    command = [sys.executable, "-m", "tokd_lightning", "detect", *map(str, given), "--json"]
    ran = subprocess.run(
        [sys.executable, "-c", BETWEEN, *command], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout), float(ran.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "count", [pytest.param(12, id="few"), pytest.param(1000, id="all", marks=pytest.mark.slow)]
)
def test_mutated_files_cost_a_line_each(count, model, mixed, tmp_path):
    rng = np.random.default_rng(20)
    good = list(seeds(mixed).items())
    for number in range(count):
        suffix, content = good[number % len(good)]
        assert suffix in (*IMAGES, *VIDEOS)
        (tmp_path / f"{number:04d}{suffix}").write_bytes(mutate(content, rng))
    given = ["--annotate", tmp_path / "out", "--workers", "2", "--time-limit", LIMIT]
    started = time.monotonic()
    said, largest = detect(model, tmp_path, *given)
    assert time.monotonic() - started < 30 + count
    assert len(said["files"]) == count
    assert set(said["counts"]) <= {"scored", "no_face", "unreadable", "too_large", "too_slow"}
    assert said["counts"]["unreadable"] >= count / 8
    assert said["counts"]["scored"] >= count / 20
    print(said["counts"], f"{time.monotonic() - started:.1f} s, {largest:.0f} MB")
    assert largest < 500
