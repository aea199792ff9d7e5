import io
import struct

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_videos import film, put_index_first

from tokd_lightning.data.stream import encoder_crf, read_packets
from tokd_lightning.data.video import Source, read_frames
from tokd_lightning.demo.video import encode
from tokd_lightning.prepare.boxes import Square
from tokd_lightning.prepare.frames import cut_out, encode_image
from tokd_lightning.prepare.options import Options
from tokd_lightning.prepare.reencode import reencode


def read(file, wanted):
    source = Source(file)
    return read_frames(source, wanted, lambda index, frame: (index, source.upright(frame)))


def write(file, frames, codec, pixels, rate=25):
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file


def test_the_wanted_frames_and_the_length_are_exact(tmp_path):
    frames = film(0, 12)
    encode(frames, tmp_path / "a.mp4", "c0")
    reading = read(tmp_path / "a.mp4", [2, 7, 11, 40])
    assert (reading.length, reading.damage) == (12, "")
    assert [index for index, _ in reading.kept] == [2, 7, 11]
    for index, picture in reading.kept:
        assert np.abs(picture.astype(int) - frames[index]).mean() < 2


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mp4", "libx264", "yuv444p"),
    ],
)
def test_odd_sizes_and_other_codecs_are_read(tmp_path, name, codec, pixels):
    file = write(tmp_path / name, film(0, 4, (67, 45)), codec, pixels)
    reading = read(file, range(9))
    assert (reading.length, reading.damage) == (4, "")
    assert {picture.shape for _, picture in reading.kept} == {(45, 67, 3)}


def test_damage_ends_a_video(tmp_path):
    encode(film(0, 12), tmp_path / "a.mp4", "c0")
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.video[0])]
    middle = packets[7][0] + packets[7][1] // 2
    content[middle : middle + 100] = np.random.default_rng(0).bytes(100)
    (tmp_path / "b.mp4").write_bytes(content)
    whole, broken = (read(tmp_path / name, range(40)) for name in ("a.mp4", "b.mp4"))
    assert 5 <= broken.length <= 7
    assert "cannot be decoded" in broken.damage
    for (index, picture), (same, intact) in zip(broken.kept, whole.kept, strict=False):
        assert index == same
        np.testing.assert_array_equal(picture, intact)


def test_a_file_that_is_cut_between_two_frames_is_noticed(tmp_path):
    encode(film(0, 12), tmp_path / "a.mp4", "c0")
    put_index_first(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        place = [packet.pos for packet in container.demux(container.streams.video[0])][7]
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:place])
    reading = read(tmp_path / "a.mp4", range(40))
    assert (reading.length, len(reading.kept)) == (7, 7)
    assert reading.damage == "it ends after 7 of 12 frames"


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(5000)])
def test_what_is_no_video_has_no_length(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    reading = read(tmp_path / "a.mp4", [0])
    assert reading.kept == []
    assert reading.length == 0
    assert reading.damage


def test_sound_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", 8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    assert read(tmp_path / "a.wav", [0]).damage == "it holds no video stream"


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_turned_videos_are_turned_as_players_do(tmp_path, matrix):
    file = tmp_path / "a.mp4"
    encode(film(0, 3), file, "c0")
    content = bytearray(file.read_bytes())
    place = content.find(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    _, expected = cv2.VideoCapture(str(file)).read()
    _, picture = read(file, [0]).kept[0]
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected[..., ::-1]).mean() < 2
    twin, _ = reencode(file, 10)
    with twin.open() as container:
        frame = next(container.decode(video=0))
    assert np.abs(twin.upright(frame).astype(int) - picture).mean() < 6
    assert twin.size(frame) == (picture.shape[1], picture.shape[0])


def test_a_crop_of_the_right_size_is_copied_as_it_is():
    picture = film(0, 1)[0]
    crop = cut_out(picture, Square(10, 5, 32), 32)
    np.testing.assert_array_equal(crop, picture[5:37, 10:42])


def test_shrinking_does_not_alias():
    noise = np.random.default_rng(0).normal(128, 30, (240, 240, 3)).astype(np.uint8)
    assert cut_out(noise, Square(0, 0, 240), 60).std() == pytest.approx(30 / 4, rel=0.05)


def test_jpeg_keeps_colour_at_full_resolution_and_png_keeps_all():
    picture = film(0, 1)[0][:, :64]
    suffix, content = encode_image(picture, Options())
    with Image.open(io.BytesIO(content)) as image:
        assert (suffix, image.format) == (".jpg", "JPEG")
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
        assert np.abs(np.asarray(image).astype(int) - picture).mean() < 2
    suffix, content = encode_image(picture, Options(encoding="png"))
    assert suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), picture)
    small = encode_image(picture, Options(jpeg_quality=50))[1]
    assert len(small) < len(encode_image(picture, Options())[1])


@pytest.mark.parametrize(
    ("pixels", "size", "kept"),
    [
        ("yuv420p", (96, 64), "yuv420p"),
        ("yuv444p", (96, 64), "yuv444p"),
        ("yuv444p", (67, 45), "yuv444p"),
    ],
)
def test_twin_has_every_frame_the_same_pixels_and_the_wanted_crf(tmp_path, pixels, size, kept):
    file = write(tmp_path / "a.mp4", film(0, 12, size), "libx264", pixels)
    twin, reading = reencode(file, 40)
    assert (reading.length, reading.damage) == (12, "")
    (tmp_path / "b.mp4").write_bytes(twin.content)
    assert encoder_crf(tmp_path / "b.mp4") == 40
    assert read_packets(Source(tmp_path / "b.mp4")).length == 12
    with twin.open() as container:
        stream = container.streams.video[0]
        assert (stream.pix_fmt, stream.average_rate) == (kept, 25)
    assert reencode(file, 40)[0].content == twin.content
    light = [p.mean() for _, p in read(tmp_path / "b.mp4", range(12)).kept]
    assert np.abs(light - film(0, 12, size).mean((1, 2, 3))).max() < 6


def test_twin_chooses_its_frame_types_itself(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", 25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for frame in film(0, 9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    twin, _ = reencode(tmp_path / "a.mp4", 40)
    with twin.open() as container:
        assert sum(frame.key_frame for frame in container.decode(video=0)) == 1


def test_of_what_is_no_video_there_is_no_twin(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    twin, reading = reencode(tmp_path / "a.mp4", 40)
    assert (twin.content, reading.length) == (b"", 0)
    assert reading.damage
