import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tokd_lightning.data import decode as decoding
from tokd_lightning.data.decode import decode, read_frame
from tokd_lightning.data.image import orientation, to_rgb
from tokd_lightning.show.tiles import read_picture
from tokd_lightning.verify.files import FileJob, examine

SMALL = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
PIXELS = cv2.resize(SMALL, (37, 22), interpolation=cv2.INTER_CUBIC)
FORMATS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}
ORIENTATION = 0x0112


def stored(form: str, turn: int | None, pixels=PIXELS) -> bytes:
    """Store a picture as a camera that is held in some way."""
    exif = Image.Exif()
    if turn is not None:
        exif[ORIENTATION] = turn
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, exif=exif, **FORMATS[form])
    return file.getvalue()


def by_opencv(data: bytes):
    """Decode as OpenCV does, which obeys EXIF."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), 4)


@pytest.mark.parametrize("fallback", [False, True], ids=["torchvision", "Pillow"])
@pytest.mark.parametrize("form", FORMATS)
def test_decode_turns_as_opencv_does(form, fallback, monkeypatch):
    if fallback:
        monkeypatch.setattr(decoding, "decode_image", None)
    for turn in range(1, 9):
        data = stored(form, turn)
        expected = by_opencv(data)
        assert expected.shape == ((37, 22, 3) if turn > 4 else (22, 37, 3))
        image = decode(data)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)
        with Image.open(io.BytesIO(data)) as opened:
            np.testing.assert_array_equal(to_rgb(opened), expected)


def test_files_without_exif_are_told_by_their_first_bytes(monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    for form in ("JPEG", "PNG", "WEBP"):
        assert orientation(stored(form, None)) == 1
    monkeypatch.undo()
    assert orientation(stored("JPEG", 6)) == 6


def test_damaged_exif_leaves_the_picture_as_it_is():
    data = bytearray(stored("JPEG", 6))
    place = data.find(b"Exif") + 6
    data[place : place + 8] = b"garbage!"
    assert decode(bytes(data)).shape == (3, 22, 37)
    whole = {form: stored(form, 6) for form in ("JPEG", "PNG", "WEBP")}
    for form, content in whole.items():
        for length in range(0, len(content), 5):
            assert orientation(content[:length]) in (1, 6), form


def test_an_entry_behind_the_pixels_of_a_png_is_found():
    data = stored("PNG", 8)
    kind = data.find(b"eXIf") - 4
    size = int.from_bytes(data[kind : kind + 4]) + 12
    chunk, rest = data[kind : kind + size], data[:kind] + data[kind + size :]
    end = rest.rfind(b"IEND") - 4
    moved = rest[:end] + chunk + rest[end:]
    assert orientation(moved) == 8
    assert decode(moved).shape == (3, 37, 22)


def test_training_show_verify_and_detect_see_one_picture(tmp_path):
    pytest.importorskip("onnxruntime")
    from tokd_lightning.deploy import read as reading

    side = np.kron(SMALL[:4, :4], np.ones((16, 16, 1), np.uint8))
    file = tmp_path / "a.jpg"
    file.write_bytes(stored("JPEG", 6, side))
    expected = torch.from_numpy(by_opencv(file.read_bytes())).permute(2, 0, 1)
    assert torch.equal(read_frame(file, 64), expected)
    assert torch.equal(torch.from_numpy(reading._picture(file)[0]).permute(2, 0, 1), expected)
    shown = torch.from_numpy(read_picture(file, 64, 0.33).rgb).permute(2, 0, 1)
    assert (shown.int() - expected.int()).abs().max() <= 1
    file.write_bytes(stored("JPEG", 6))
    for quick in (False, True):
        job = FileJob(tmp_path, ("a.jpg",), (0,), False, quick)
        assert [frame.size for frame in examine(job).frames] == [(22, 37)]
