"""Frames of a video without decoding all of it: the very frames that reading all of it gives."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.data.video import Source, read_frames
from tokd_lightning.deploy import videos

QUICK = ("b-frames.mp4", "short-groups.mkv")
KINDS = {
    "b-frames.mp4": ("-c:v", "libx264", "-preset", "medium"),
    "short-groups.mkv": ("-c:v", "libx264", "-g", "12"),
    "open-groups.mp4": ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=20"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "stream.ts": ("-c:v", "libx264"),
    "late.mp4": ("-c:v", "libx264", "-output_ts_offset", "1"),
    "raw.h264": ("-c:v", "libx264"),
}


def encode(path, options, frames=90):
    """Encode noise that moves, which makes encoders use all kinds of frames."""
    source = f"testsrc2=size=128x96:rate=25:duration={frames / 25}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-f", "lavfi"]
    subprocess.run([*command, "-i", source, "-pix_fmt", "yuv420p", *options, str(path)], check=True)
    return path


def whole(path, wanted):
    source = Source(path, guarded=True)
    shots = videos._Shots(source, len(wanted), float("inf"))
    read_frames(source, set(wanted), shots.keep)
    return shots.film("")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in KINDS]
)
def test_the_frames_are_those_of_the_whole_video(name, tmp_path):
    path = encode(tmp_path / name, KINDS[name])
    expected = whole(path, evenly_spaced(90, 7))
    found = videos.sample_frames(path, 7, 10**6)
    assert list(found.pictures) == evenly_spaced(90, 7)
    assert found.times == expected.times
    for index, picture in expected.pictures.items():
        np.testing.assert_array_equal(found.pictures[index], picture)
    assert not found.note


def test_frames_that_nothing_needs_are_not_decoded(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", KINDS["b-frames.mp4"])
    decoded = []
    real = videos._decoded

    def counted(*given):
        for frame in real(*given):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(videos, "_decoded", counted)
    monkeypatch.setattr(videos, "read_frames", None)
    found = videos.sample_frames(path, 7, 10**6)
    assert len(found.pictures) == 7
    assert len(decoded) < 60  # of 90


def test_a_damaged_video_is_read_up_to_the_damage(tmp_path):
    path = encode(tmp_path / "a.ts", KINDS["stream.ts"])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    expected = whole(path, range(90))
    found = videos.sample_frames(path, 90, 10**6)
    assert found.note
    assert list(found.pictures) == list(expected.pictures)
