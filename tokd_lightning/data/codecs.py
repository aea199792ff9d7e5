"""JPEG and H.264 round trips with the real encoders, one picture at a time."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tokd_lightning.errors import TokdError

Picture = NDArray[np.uint8]

# One thread and no macroblock tree: x264's output then depends only on the picture.
_ALONE = "mbtree=0:threads=1:rc-lookahead=0:sync-lookahead=0"


def refuse_without_h264() -> None:
    """Check that the H.264 encoder is installed.

    Raises:
        TokdError: PyAV was built without libx264.
    """
    import av

    if "libx264" not in av.codecs_available:
        raise TokdError("this PyAV was built without libx264: pip install --force-reinstall av")


def jpeg(picture: Picture, quality: float) -> Picture:
    """Encode as JPEG and decode again: libjpeg via Pillow, chroma at half resolution (4:2:0).

    Args:
        picture: RGB, ``(H, W, 3)``.
        quality: libjpeg's quality, 1 to 95.
    """
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(stored) as image:
        return np.asarray(image.convert("RGB"))


def h264(picture: Picture, crf: float) -> Picture:
    """Encode as H.264 and decode again, see :func:`encode_h264`.

    Args:
        picture: RGB, ``(H, W, 3)``.
        crf: x264's constant rate factor, 0 to 51.
    """
    height, width = picture.shape[:2]
    return decode_h264(encode_h264(picture, crf))[:height, :width]


def encode_h264(picture: Picture, crf: float) -> bytes:
    """Encode a picture as a stream of a single intra picture (IDR), 4:2:0 as in FF++'s videos.

    It is how x264 would begin a video of this picture. An odd side is padded by one edge pixel,
    because 4:2:0 needs even sides.
    """
    import av

    odd = [(0, side % 2) for side in picture.shape[:2]]
    even = np.ascontiguousarray(np.pad(picture, [*odd, (0, 0)], mode="edge"))
    codec = cast(Any, av.CodecContext.create("libx264", "w"))
    codec.height, codec.width = even.shape[:2]
    codec.pix_fmt = "yuv420p"
    codec.framerate, codec.time_base = Fraction(25), Fraction(1, 25)
    codec.options = {"crf": f"{crf:g}", "x264-params": _ALONE}
    frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))


def decode_h264(stream: bytes) -> Picture:
    """Decode the only picture of a stream, RGB ``(H, W, 3)``."""
    import av

    codec = cast(Any, av.CodecContext.create("h264", "r"))
    codec.thread_count = 1
    frames = [*codec.decode(av.Packet(stream)), *codec.decode(None)]
    return np.asarray(frames[0].to_ndarray(format="rgb24"))


def through(
    codec: Callable[[Picture, float], Picture], images: Tensor, values: tuple[float, ...]
) -> Iterator[Tensor]:
    """Encode and decode images with a codec, on as many threads as torch uses.

    Args:
        codec: :func:`jpeg` or :func:`h264`.
        images: In [0, 1], ``(B, 3, H, W)``, on any device.
        values: Values of the codec's parameter.

    Yields:
        Images of the same shape for each value.
    """
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for value in values:
            sent = threads.map(codec, pixels, [value] * len(pixels))
            back = torch.from_numpy(np.stack([*sent])).to(images.device)
            yield back.permute(0, 3, 1, 2).to(images.dtype) / 255
