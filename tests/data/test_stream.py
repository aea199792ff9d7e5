import av
import pytest
from tiny_videos import film

from tokd_lightning.data.qualities import as_crf
from tokd_lightning.data.stream import encoder_crf, read_packets
from tokd_lightning.data.video import Source
from tokd_lightning.demo.video import encode


@pytest.mark.parametrize(
    ("quality", "crf"), [("c0", "lossless"), ("c23", 23), ("c40", 40), ("c9", 9)]
)
def test_the_encoder_s_own_crf_is_read(tmp_path, quality, crf):
    encode(film(0, 3), tmp_path / "a.mp4", quality)
    assert encoder_crf(tmp_path / "a.mp4") == crf


def test_another_encoder_says_nothing(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(film(0, 1)[0], format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert encoder_crf(tmp_path / "a.mp4") is None


def test_frames_are_counted(tmp_path):
    encode(film(0, 9), tmp_path / "a.mp4", "c23")
    packets = read_packets(Source(tmp_path / "a.mp4"))
    assert (packets.length, packets.size, packets.crf) == (9, (96, 64), 23)
    assert read_packets(Source((tmp_path / "a.mp4").read_bytes())) == packets


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises((OSError, ValueError)):
        encoder_crf(tmp_path / "a.mp4")
    with pytest.raises((OSError, ValueError)):
        read_packets(Source(tmp_path / "a.mp4"))


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "lossy"])
def test_what_is_not_a_crf_is_none(text):
    assert as_crf(text) is None
