"""Files that a detector must survive."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image


def make_hostile(root: Path, good: Path) -> dict[str, tuple[str, str]]:
    """Make files that are broken, huge or not what their names say, from good ones.

    Returns:
        Name -> the status and kind that `tokd detect` shall give.
    """
    for name, content in {
        "empty.jpg": b"",
        "text.png": b"I am no picture\n" * 20,
        "truncated.jpg": (good / "dark.jpg").read_bytes()[:3000],
        "truncated.png": (good / "dark.png").read_bytes()[:9000],
        "headless.mp4": (good / "dark.mp4").read_bytes()[2000:],
        "cut.mp4": (good / "dark.mp4").read_bytes()[:-1500],
        "noise.mp4": np.random.default_rng(0).bytes(20_000),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n",
        "concat.mp4": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "bomb.png": _bomb(60_000, 60_000),
        "zeros.png": _bomb(7_000, 7_000),
        "noface.png": b"",
        "picture.mp4": (good / "dark.png").read_bytes(),
        "video.jpg": (good / "dark.mp4").read_bytes(),
        "image.txt": (good / "dark.jpg").read_bytes(),
    }.items():
        (root / name).write_bytes(content)
    Image.new("RGB", (200, 200), (90, 90, 90)).save(root / "noface.png")
    Image.new("L", (10_000, 10_000), 90).save(root / "huge.jpg")
    Image.new("RGB", (1, 1)).save(root / "dot.png")
    Image.new("RGB", (60_000, 3)).save(root / "line.png")
    shutil.copy(good / "dark.png", root / "\x1b[2Jname\n.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "gone.png").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe.mp4")
    return {
        **dict.fromkeys(
            ("empty.jpg", "text.png", "headless.mp4", "noise.mp4", "playlist.mp4", "concat.mp4",
             "script.png", "loop.png", "gone.png", "pipe.mp4", "cut.mp4"),
            ("unreadable", "unknown"),
        ),
        **dict.fromkeys(("truncated.jpg", "truncated.png", "zeros.png"), ("unreadable", "image")),
        **dict.fromkeys(("bomb.png", "huge.jpg"), ("too_large", "image")),
        **dict.fromkeys(("noface.png", "dot.png", "line.png"), ("no_face", "image")),
        **dict.fromkeys(("picture.mp4", "image.txt", "\x1b[2Jname\n.png"), ("scored", "image")),
        "video.jpg": ("scored", "video"),
    }  # fmt: skip


def stream(file: Path, target: Path) -> bytes:
    """Store a video as a streaming server does, so that it can be opened without its end."""
    options = {"movflags": "faststart"}
    with av.open(str(file)) as old, av.open(str(target), "w", options=options) as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                new.mux(packet)
    return target.read_bytes()


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is large, and ends early."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        size, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return size + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
