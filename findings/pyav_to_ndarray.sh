#!/usr/bin/env bash
# PyAV's frame.to_ndarray(format="rgb24") is not what FFmpeg's own program shows of three common
# kinds of video, although both convert by libswscale:
#   10-bit 4:2:0   chroma is interpolated bilinearly and from the left, not bicubically and from the
#                  centre: edges of colour differ by tens of levels;
#   interlaced     frames that are flagged so are converted field by field: up to 255 levels;
#   mirrored       frame.rotation says 180 of a horizontal mirror and 0 of a vertical one.
# A graph of libavfilter (buffer, scale=flags=bicubic, format=rgb24) gives the program's pixels, and
# frame.side_data["DISPLAYMATRIX"] the whole matrix. Looking at frame.side_data has a price: the
# frame and its container refer to each other, so that the frame's memory waits for Python's cycle
# collector.
# Exits with 1 where one of this is otherwise.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.3.5
cd "$place"
env/bin/python - <<'PYTHON'
import gc
import struct
import subprocess
import sys

import av
import imageio_ffmpeg
import numpy as np
from av.filter import Graph

EXE = imageio_ffmpeg.get_ffmpeg_exe()
print(f"PyAV {av.__version__}, libswscale {av.library_versions['libswscale']},", end=" ")
print("program", subprocess.run([EXE, "-version"], capture_output=True).stdout.split()[2].decode())
SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.2")


def ffmpeg(*given):
    return subprocess.run([EXE, "-y", "-v", "error", *given], capture_output=True, check=True).stdout


def program(name):
    raw = ffmpeg("-i", name, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, 64, 96, 3).astype(int)


def frames(name):
    with av.open(name) as container:
        return list(container.decode(video=0))


def filtered(frame):
    graph = Graph()
    form = f"video_size=96x64:pix_fmt={frame.format.name}:time_base=1/25"
    last = graph.add("buffer", f"{form}:range={int(frame.color_range)}")
    for name, options in (("scale", "flags=bicubic"), ("format", "pix_fmts=rgb24"), ("buffersink", None)):
        step = graph.add(name, options)
        last.link_to(step)
        last = step
    graph.configure()
    graph.push(frame)
    return graph.pull().to_ndarray()


ffmpeg(*SOURCE, "-c:v", "libx264", "-pix_fmt", "yuv420p", "plain.mp4")
ffmpeg(*SOURCE, "-c:v", "libx264", "-pix_fmt", "yuv420p10le", "ten.mp4")
ffmpeg(*SOURCE, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-flags", "+ilme+ildct", "inter.mp4")
held = True
for name, least in (("plain.mp4", 0), ("ten.mp4", 20), ("inter.mp4", 100)):
    shown, read = program(name), frames(name)
    direct = int(np.abs(np.stack([f.to_ndarray(format="rgb24") for f in read]) - shown).max())
    graph = int(np.abs(np.stack([filtered(f) for f in read]) - shown).max())
    print(f"{name}: to_ndarray differs from the program by up to {direct}, a graph by {graph}")
    held &= graph == 0 and (direct >= least if least else direct == 0)

for option, angle, mirror in (("-display_hflip", 180, (-1, 1)), ("-display_vflip", 0, (1, -1))):
    ffmpeg(option, "-i", "plain.mp4", "-c", "copy", "turned.mp4")
    frame = frames("turned.mp4")[0]
    matrix = struct.unpack("=9i", bytes(frame.side_data["DISPLAYMATRIX"]))
    signs = (matrix[0] >> 16, matrix[4] >> 16)
    print(f"{option}: rotation {frame.rotation}, diagonal of the display matrix {signs}")
    held &= abs(frame.rotation) == angle and signs == mirror

gc.disable()
counts = []
for look in (False, True):
    before = len([o for o in gc.get_objects() if isinstance(o, av.VideoFrame)])
    for frame in frames("plain.mp4"):
        if look:
            frame.side_data
    del frame
    counts.append(len([o for o in gc.get_objects() if isinstance(o, av.VideoFrame)]) - before)
print(f"frames alive after use: {counts[0]}, and {counts[1]} whose side_data were looked at")
held &= counts[0] == 0 and counts[1] > 0
sys.exit(0 if held else 1)
PYTHON
