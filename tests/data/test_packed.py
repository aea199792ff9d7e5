from pathlib import Path

import numpy as np
import pytest

from tokd_lightning.data.packed import pack_frames, read_record, split_path, write_pack
from tokd_lightning.errors import TokdError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 9, 9), dtype=np.uint8)
FRAMES = [2, 7, 30, 31]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "faces" / "000_003.npy"
    write_pack(path, FRAMES, IMAGES)
    return path


def test_what_is_packed_is_what_is_read(pack):
    assert pack_frames(pack) == FRAMES
    for record in (3, 0, 2, 1):
        image = read_record(pack, record)
        assert image.dtype == np.uint8
        assert image.flags.writeable
        assert np.array_equal(image, IMAGES[record])


def test_a_pack_is_an_ordinary_numpy_file(pack):
    records = np.load(pack, mmap_mode="r")
    assert records.dtype == [("frame", "<i4"), ("image", "u1", (3, 9, 9))]
    assert records["frame"].tolist() == FRAMES
    assert np.array_equal(records["image"], IMAGES)


def test_a_pack_may_be_empty(tmp_path):
    write_pack(tmp_path / "a.npy", [], IMAGES[:0])
    assert pack_frames(tmp_path / "a.npy") == []
    assert np.load(tmp_path / "a.npy").shape == (0,)
    with pytest.raises(ValueError, match="it has 0 frames and no number 0"):
        read_record(tmp_path / "a.npy", 0)


def test_equal_frames_give_equal_bytes_and_nothing_else_in_the_folder(pack, tmp_path):
    write_pack(tmp_path / "again.npy", FRAMES, IMAGES)
    assert (tmp_path / "again.npy").read_bytes() == pack.read_bytes()
    assert [path.name for path in pack.parent.iterdir()] == ["000_003.npy"]


def test_a_path_names_a_pack_and_a_record_or_a_file():
    assert split_path("c40/faces/000.npy#12") == ("c40/faces/000.npy", 12)
    assert split_path("a.npy#1/b c\n.npy#02") == ("a.npy#1/b c\n.npy", 2)
    for path in ("c40/faces/000/0012.jpg", "a.npy", "a.npy#", "a.npy#x", "a.npz#3", "#3"):
        assert split_path(path) == (path, None)


def test_a_pack_that_was_written_anew_is_read_anew(pack):
    assert np.array_equal(read_record(pack, 1), IMAGES[1])
    write_pack(pack, FRAMES[:2], IMAGES[2:])
    assert np.array_equal(read_record(pack, 1), IMAGES[3])
    larger = np.zeros((1, 3, 11, 11), np.uint8)
    write_pack(pack, [5], larger)
    assert np.array_equal(read_record(pack, 0), larger[0])


def test_what_is_no_pack_is_refused_in_a_few_words(pack, tmp_path):
    other = tmp_path / "other.npy"
    whole = pack.read_bytes()
    for content, message in (
        (b"", "not a pack of frames"),
        (b"no pack at all", "not a pack of frames"),
        (whole[:60], "not a pack of frames"),
        (whole[:-1], "cut off"),
        (whole + b"\0", "too long"),
    ):
        other.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_record(other, 0)
        assert "\n" not in str(caught.value)
        with pytest.raises(TokdError, match=rf"cannot read {other}: .*{message}.*prepare"):
            pack_frames(other)
    for array in (IMAGES, np.zeros((2, 2), [("frame", "<i4"), ("image", "u1", (3, 9, 9))])):
        np.save(other, array)
        with pytest.raises(ValueError, match="not a pack of frames"):
            read_record(other, 0)
    np.save(other, np.zeros(2, [("frame", "<i8"), ("image", "u1", (3, 9, 9))]))
    with pytest.raises(ValueError, match="not a pack of frames"):
        read_record(other, 0)
    with pytest.raises(ValueError, match="No such file"):
        read_record(tmp_path / "gone.npy", 0)
    with pytest.raises(ValueError, match="it has 4 frames and no number 4"):
        read_record(pack, 4)


def test_frames_that_make_no_pack_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    for frames, images, message in (
        (FRAMES, IMAGES[:3], "as many"),
        ([2, 7, 7, 31], IMAGES, "increasing"),
        (FRAMES, IMAGES.astype(np.int16), "uint8"),
        (FRAMES, IMAGES.transpose(0, 2, 3, 1), r"\(T, 3, S, S\)"),
        (FRAMES, IMAGES[..., :8], r"\(T, 3, S, S\)"),
    ):
        with pytest.raises(ValueError, match=message):
            write_pack(path, frames, images)
    with pytest.raises(ValueError, match="named"):
        write_pack(tmp_path / "a.npz", FRAMES, IMAGES)
    (tmp_path / "file").write_text("")
    with pytest.raises(TokdError, match="cannot be written"):
        write_pack(tmp_path / "file" / "a.npy", FRAMES, IMAGES)
