import numpy as np
import pytest
from odd_videos import described, edit, ffmpeg, make, program, shown

from tokd_lightning.data.stream import declared_frames, read_packets
from tokd_lightning.data.video import Shelf, Source, Stored, count_frames, read_frames
from tokd_lightning.prepare.reencode import reencode
from tokd_lightning.verify.streams import StreamJob, examine

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
FULL = "setparams=range=pc:colorspace=bt709:color_trc=bt709:color_primaries=bt709"
PQ = "setparams=range=tv:colorspace=bt2020nc:color_trc=smpte2084:color_primaries=bt2020"
ODD = "format=rgb24,crop=67:45:exact=1"
GAPS = ("-vf", "select='mod(n,3)'", "-fps_mode", "vfr")
CASES = {
    "plain.mp4": X264,
    "bt709.mp4": ("-vf", "setparams=colorspace=bt709", *X264),
    "full.mp4": ("-vf", FULL, *X264),
    "pq.mkv": ("-vf", PQ, "-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "full10.mkv": ("-vf", FULL, "-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "odd.webm": ("-vf", ODD, "-c:v", "libvpx", "-pix_fmt", "yuv420p"),
    "interlaced.mp4": (*X264, "-flags", "+ilme+ildct"),
    "empty.avi": (*GAPS, "-c:v", "mpeg4"),
    "rgb.mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "stream.ts": X264,
}
MORE = {
    **{
        f"{matrix}.mp4": ("-vf", f"setparams=colorspace={matrix}", *X264)
        for matrix in ("smpte170m", "bt470bg", "smpte240m", "fcc", "bt2020nc")
    },
    "444.mp4": ("-vf", "setparams=colorspace=bt709", "-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "422.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv422p"),
    "vfr.mp4": (*GAPS, *X264),
    "fragments.mp4": (*X264, "-movflags", "frag_keyframe+empty_moov", "-g", "3"),
    "jpeg.avi": ("-c:v", "mjpeg", "-q:v", "2"),
    "grey.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray"),
    "grey16.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray16le"),
    "alpha.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuva420p"),
    "palette.avi": ("-c:v", "msrle", "-pix_fmt", "pal8"),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "altref.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-b:v", "200k"),
    "vp9.mp4": ("-c:v", "libvpx-vp9", "-b:v", "100k"),
    "odd10.mkv": ("-vf", ODD, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le"),
    "raw.avi": ("-c:v", "rawvideo", "-pix_fmt", "yuyv422"),
    "gaps264.avi": (*GAPS, *X264, "-bf", "0"),
    **{f"a.{end}": () for end in ("mpg", "wmv", "flv", "3gp", "ogv")},
    "a.m2ts": (*X264, "-f", "mpegts"),
    "a.h264": X264,
}
TURNS = [
    (f"-display_rotation {angle}", *mirrors)
    for angle in (0, 90, 180, 270)
    for mirrors in ((), ("-display_hflip",))
]


@pytest.fixture(scope="module", autouse=True)
def _needs_ffmpeg():
    program()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Thirty frames in three groups of pictures with B-frames."""
    place = tmp_path_factory.mktemp("base") / "base.mp4"
    return make(place, *X264, "-g", "10", "-bf", "2", frames=30)


def pictures(source):
    reading = read_frames(source, range(1000), lambda _, frame: source.upright(frame))
    assert reading.damage == ""
    assert reading.length == len(reading.kept)
    return reading.kept


def assert_shown(file, expected=None):
    """Hold the reader against FFmpeg's own program: frame by frame, within one level."""
    expected = shown(file) if expected is None else expected
    read = pictures(Source(file))
    assert len(read) == len(expected) > 0
    assert np.abs(np.stack(read).astype(int) - expected).max() <= 1
    assert examine(StreamJob(file, quick=False)).frames == len(expected)


@pytest.mark.parametrize("name", CASES)
def test_frames_equal_those_of_ffmpeg(name, tmp_path):
    assert_shown(make(tmp_path / name, *CASES[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_frames_of_rarer_videos_equal_those_of_ffmpeg(name, tmp_path):
    assert_shown(make(tmp_path / name, *MORE[name], frames=12, size="352x288"))


@pytest.mark.parametrize("turn", TURNS, ids=" ".join)
def test_display_matrix_equals_ffmpeg(turn, base, tmp_path):
    given = " ".join(turn).split()
    ffmpeg(*given, "-i", base, "-t", "0.1", "-c", "copy", tmp_path / "a.mp4")
    assert_shown(tmp_path / "a.mp4")
    source = Source(tmp_path / "a.mp4")
    sizes = read_frames(source, [0], lambda _, frame: source.size(frame)).kept
    assert sizes == [pictures(source)[0].shape[1::-1]]


def test_display_matrix_of_an_odd_angle_equals_ffmpeg(tmp_path):
    make(tmp_path / "a.mkv", "-vf", ODD, "-c:v", "libvpx", "-pix_fmt", "yuv420p")
    for angle in ("30", "90"):
        turned = tmp_path / f"{angle}.mkv"
        ffmpeg("-display_rotation", angle, "-i", tmp_path / "a.mkv", "-c", "copy", turned)
        assert_shown(turned)


@pytest.mark.parametrize(
    "edits",
    [
        [(500, 1024)],
        [(400, 1024 + 5120)],
        [(240, 1024), (240, 1024 + 10240)],
        [(240, 1024), (240, 1024)],
        [(400, -1), (400, 1024)],
    ],
    ids=["end", "middle", "two parts", "one part twice", "delay"],
)
def test_edit_list_hides_frames_as_in_ffmpeg(edits, base, tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(base.read_bytes())
    edit(file, edits)
    expected = shown(file)
    assert len(expected) < 30
    assert_shown(file, expected)
    assert read_packets(Source(file)).length == len(expected)
    assert declared_frames(Source(file)) == len(expected)


def test_cut_without_encoding_is_whole(base, tmp_path):
    for suffix in ("mp4", "mkv", "ts"):
        file = tmp_path / f"a.{suffix}"
        ffmpeg("-ss", "0.6", "-i", base, "-c", "copy", "-t", "0.4", file)
        assert_shown(file)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", GAPS), ("a.mp4", ())])
def test_what_is_cut_off_is_noticed_all_the_same(name, codec, tmp_path):
    given = ("-movflags", "faststart") if name == "a.mp4" else ()
    whole = make(tmp_path / name, *codec, "-c:v", "mpeg4", *given, frames=30).read_bytes()
    there = count_frames(Source(whole)).length
    for share in (0.5, 0.9):
        reading = count_frames(Source(whole[: int(share * len(whole))]))
        assert 0 < reading.length < there
        assert reading.damage


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("flagged.mkv", ("-map", "1", "-map", "0", "-disposition:v:0", "attached_pic")),
        ("flagged.mp4", ("-map", "0", "-map", "1", "-disposition:v:1", "attached_pic")),
        ("plain.mkv", ("-map", "1", "-map", "0")),
        ("preview.mp4", ("-map", "2", "-map", "0")),
        ("preview.ts", ("-map", "2", "-map", "0")),
        (
            "default.mkv",
            ("-map", "0", "-map", "2", "-disposition:v:0", "0", "-disposition:v:1", "default"),
        ),
    ],
)
def test_stream_is_the_one_that_ffmpeg_takes(name, given, base, streams, tmp_path):
    cover, preview = streams
    inputs = ("-i", base, "-i", cover, "-i", preview)
    ffmpeg(*inputs, *given, "-c", "copy", tmp_path / name)
    assert_shown(tmp_path / name)


def test_cover_that_says_it_is_the_default_is_no_video(base, streams, tmp_path):
    said = ("-disposition:v:0", "default", "-disposition:v:1", "0")
    given = ("-i", streams[0], "-i", base, "-map", "0", "-map", "1", "-c", "copy")
    ffmpeg(*given, *said, tmp_path / "a.mkv")
    assert len(shown(tmp_path / "a.mkv")) == 1
    assert_shown(tmp_path / "a.mkv", shown(base))


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A cover and a preview."""
    root = tmp_path_factory.mktemp("streams")
    cover = make(root / "cover.jpg", "-frames:v", "1", "-update", "1", size="320x240")
    return cover, make(root / "preview.mp4", *X264, size="48x32")


@pytest.mark.parametrize("matrix", ["ycgco", "bt2020c"])
def test_colours_that_ffmpeg_cannot_convert_are_said(matrix, tmp_path):
    file = make(tmp_path / "a.mp4", "-vf", f"setparams=colorspace={matrix}", *X264)
    reading = count_frames(Source(file))
    assert reading.length == 0
    assert "cannot convert its colours" in reading.damage
    assert examine(StreamJob(file, quick=False)).problem == "broken-video"


@pytest.mark.parametrize(
    ("codec", "form"),
    [
        (("-vf", "setparams=colorspace=bt709:color_trc=bt709:color_primaries=bt709", *X264), ()),
        (("-vf", FULL, *X264), ()),
        (X264, ()),
        (("-vf", PQ, "-c:v", "libx264", "-pix_fmt", "yuv444p10le"), ("-pix_fmt", "yuv420p")),
        (("-c:v", "ffv1", "-pix_fmt", "gbrp"), ("-pix_fmt", "yuv420p")),
    ],
    ids=["bt709", "full range", "untagged", "10-bit PQ", "RGB"],
)
def test_twin_has_the_colours_of_the_original(codec, form, tmp_path):
    smooth = "gradients=size=96x64:rate=25:duration=0.2:seed=5:n=6,gblur=2"
    original, twin, theirs = (tmp_path / name for name in ("a.mkv", "b.mp4", "c.mp4"))
    ffmpeg("-f", "lavfi", "-i", smooth, *codec, original)
    ffmpeg("-i", original, "-c:v", "libx264", "-crf", "1", *form, theirs)
    made, reading = reencode(original, 1)
    assert reading.damage == ""
    twin.write_bytes(made.content)
    assert described(twin) == described(theirs)
    difference = shown(twin).astype(int) - shown(theirs)
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.1
    assert np.abs(difference).mean() < 0.5


def test_shelf_keeps_frames_on_the_disk_beyond_its_budget(base):
    source, shelf = Source(base), Shelf(budget=40_000)
    kept = read_frames(source, range(9), lambda _, frame: shelf.keep(source, frame)).kept
    assert [isinstance(kept[place], Stored) for place in (0, -1)] == [False, True]
    for frame, expected in zip(kept, shown(base), strict=False):
        np.testing.assert_array_equal(source.upright(frame), expected)
        assert source.size(frame) == (96, 64)
    shelf.clear()
    assert not isinstance(shelf.keep(source, kept[0]), Stored)
