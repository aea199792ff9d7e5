"""Odd videos made by FFmpeg's own program, and what that program shows of a video."""

import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SIZE = "96x64"


def program() -> str:
    """Return FFmpeg's own program; a test without it is skipped."""
    import pytest

    return str(pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe())


def ffmpeg(*given: object) -> subprocess.CompletedProcess[bytes]:
    """Run FFmpeg's own program."""
    command = [program(), "-y", "-nostdin", *map(str, given)]
    return subprocess.run(command, capture_output=True, check=True)


def make(file: Path, *given: object, frames: int = 6, size: str = _SIZE) -> Path:
    """Encode a few frames of a test picture; it has no symmetry and all colours."""
    pictures = f"testsrc2=size={size}:rate=25:duration={frames / 25}"
    ffmpeg("-f", "lavfi", "-i", pictures, *given, file)
    return file


def shown(file: Path, *options: object) -> NDArray[np.uint8]:
    """Decode a video by FFmpeg's own program, as it does by default, to RGB ``(T, H, W, 3)``."""
    raw = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    done = ffmpeg(*options, "-i", file, *raw)
    said = done.stderr.decode().split("Output #0")[1]
    size = re.search(r"Video: rawvideo.*?, (\d+)x(\d+)", said)
    assert size is not None
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)


def described(file: Path) -> str:
    """Return how FFmpeg's own program describes pixel format and colours of a video."""
    done = subprocess.run([program(), "-i", str(file)], capture_output=True, check=False)
    said = re.search(r"Video: \w+.*?, (\w+(?:\([^)]*\))?), \d+x", done.stderr.decode())
    assert said is not None
    return said[1]


def edit(file: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Give an MP4 of FFmpeg's another edit list: milliseconds shown, and from which time on."""
    content = bytearray(file.read_bytes())
    place = content.find(b"elst") - 4
    (old,) = struct.unpack_from(">I", content, place)
    entries = b"".join(struct.pack(">IiI", length, start, 1 << 16) for length, start in edits)
    new = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    content[place : place + old] = new
    for box in (b"edts", b"trak", b"moov"):  # moov comes last, so that no offset changes
        start = content.rfind(box, 0, place + 8) - 4
        (size,) = struct.unpack_from(">I", content, start)
        struct.pack_into(">I", content, start, size + len(new) - old)
    file.write_bytes(content)
    return file
