"""Mask videos of FF++ are cut by the very frames and crops of their fakes."""

import json
import shutil

import cv2
import numpy as np
import pytest
from tiny_videos import DEEPFAKES, HEIGHT, WIDTH, make_ffpp_videos, rows_of, write_boxes

from tokd_lightning.cli import main
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.demo.video import decode, encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare
from tokd_lightning.prepare.boxes import Square
from tokd_lightning.prepare.masks import cut_mask

SIZE = 24


def mask_video(file, frames=6, size=(WIDTH, HEIGHT)):
    """A white bar that moves to the right by 8 pixels a frame."""
    pictures = np.zeros((frames, size[1], size[0], 3), np.uint8)
    for index, picture in enumerate(pictures):
        picture[20:50, 16 + 8 * index : 40 + 8 * index] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    encode(pictures, file, "c23")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos with masks, and what is prepared of them: two of the six masks have a fault."""
    root = make_ffpp_videos(tmp_path_factory.mktemp("masks") / "videos")
    masks = root / DEEPFAKES / "masks/videos"
    for name in ("000_001", "001_000", "003_002", "005_004"):
        mask_video(masks / f"{name}.mp4")
    mask_video(masks / "002_003.mp4", frames=4)
    mask_video(masks / "004_005.mp4", size=(WIDTH, HEIGHT + 16))
    boxes = write_boxes(
        root / "boxes.csv",
        *((f"{n:03d}", frame, 20 + 2 * frame, 16, 32, 32) for n in range(6) for frame in range(6)),
    )
    out = root.parent / "out"
    assert prepare("ffpp", root, out, frames=6, size=SIZE, margin=1.25, masks=True, workers=1,
                   detector=str(boxes), encoding="png") == 0  # fmt: skip
    return root, out


def test_masks_are_the_fakes_crops_of_the_mask_video(made):
    root, out = made
    pictures = list(decode(root / DEEPFAKES / "masks/videos/000_001.mp4"))
    rows = [r for r in rows_of(out / "manifest.csv") if r["video"] == "000_001"]
    assert len(rows) == 12  # both qualities share the masks
    for row in rows:
        x, y, side, index = (int(row[name]) for name in ("x", "y", "side", "frame"))
        mask = cv2.imread(str(out / DEEPFAKES / f"masks/faces/000_001/{index:04d}.png"), -1)
        assert mask.dtype == np.uint8
        assert mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) == {0, 255}
        crop = pictures[index][y : y + side, x : x + side].mean(2)
        centres = ((np.arange(SIZE) + 0.5) * side / SIZE).astype(int)
        wanted = crop[centres][:, centres] >= 128
        assert (wanted == (mask > 0)).mean() > 0.95  # but for pixels on the edge
        white = np.flatnonzero(mask.any(0))
        assert white[0] == pytest.approx((16 + 8 * index - x) * SIZE / side, abs=1) or x > 16


def test_a_mask_of_the_size_of_its_crop_is_not_resampled():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 1), np.uint8).repeat(3, 2)
    mask = cut_mask(picture, Square(7, 5, 24), 24)
    assert np.array_equal(mask > 0, picture[5:29, 7:31, 0] >= 128)
    large = cut_mask(picture, Square(7, 5, 12), 24)
    assert np.array_equal(large[::2, ::2], large[1::2, 1::2])  # nearest


def test_faults_of_mask_videos_are_a_line_each(made):
    _, out = made
    problems = [r for r in rows_of(out / "problems.csv") if r["problem"].startswith("mask")]
    told = {(r["video"], r["problem"]): r["detail"] for r in problems}
    assert told == {
        ("002_003", "mask_short"): "4 frames, so 2 of 6 frames have no mask",
        ("004_005", "mask_shape"): "96 x 80 pixels, the fake has 96 x 64",
    }
    folder = out / DEEPFAKES / "masks/faces"
    assert len(list((folder / "002_003").iterdir())) == 4
    assert not (folder / "004_005").exists()


def test_batches_read_the_masks_and_verify_knows_them(made, tmp_path, capsys):
    root = tmp_path / "copy"
    shutil.copytree(made[1], root)
    options = {"quality": "c40", "methods": ["Deepfakes"], "size": SIZE, "num_workers": 0}
    data = FFPPDataModule(root, batch_size=4, augmentation=[], **options)
    data.require(["mask"])
    batch = next(iter(data.train_dataloader()))
    table = data.table("train")
    for row, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
        _, method, video, frame = (table.loc[row, c] for c in ("path", "method", "video", "frame"))
        if method == "real":
            assert not mask.any()
        else:
            file = root / DEEPFAKES / f"masks/faces/{video}/{frame:04d}.png"
            assert np.array_equal(mask[0].numpy(), cv2.imread(str(file), -1))
    folder = root / DEEPFAKES / "masks/faces/000_001"
    cv2.imwrite(str(folder / "0000.png"), np.zeros((SIZE, SIZE), np.uint8))
    cv2.imwrite(str(folder / "0001.png"), np.full((SIZE, SIZE + 1), 255, np.uint8))
    (folder / "0002.png").rename(folder / "0009.png")
    (folder / "0003.png").write_bytes(b"no image")
    capsys.readouterr()
    main(["verify", str(root), "--json"])
    found = {f["code"]: f["items"] for f in json.loads(capsys.readouterr().out)["findings"]}
    base = f"{DEEPFAKES}/masks/faces"
    assert found["empty-mask"] == [f"{base}/000_001/0000.png"]
    assert found["mask-size"] == [f"{base}/000_001/0001.png"]
    assert found["extra-mask"] == [f"{base}/000_001/0009.png"]
    assert f"{base}/000_001/0002.png" in found["missing-mask"]
    assert f"{base}/002_003/0005.png" in found["missing-mask"]
    assert found["unreadable-frame"] == [f"{base}/000_001/0003.png"]
    data = FFPPDataModule(root, **options)
    data.require(["mask"])
    with pytest.raises(TokdError, match=r"1 of 24 frames .* have no mask"):
        data.table("train")


def test_masks_are_asked_for_and_belong_to_ffpp(made, tmp_path):
    root, out = made
    with pytest.raises(TokdError, match="the layout celebdf has none"):
        prepare("celebdf", root, tmp_path / "x", masks=True)
    with pytest.raises(TokdError, match="prepared with another masks"):
        prepare("ffpp", root, out, frames=6, size=SIZE, margin=1.25, workers=1,
                detector=str(root / "boxes.csv"), encoding="png")  # fmt: skip
