import io
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tokd_lightning.data import decode as decoding
from tokd_lightning.data.decode import decode, read_frame, resize
from tokd_lightning.data.frames import FrameDataset, Unreadable, loader
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.packed import write_pack
from tokd_lightning.data.sampling import EvaluationBatches, EveryNth, TrainingBatches
from tokd_lightning.errors import TokdError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 4), dtype=np.uint8)


def encoded(mode: str, form: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(PIXELS if "A" in mode else PIXELS[..., :3])
    image.convert(mode).save(file, form)
    return file.getvalue()


def rows_of(root: Path, split: str):
    manifest = scan_ffpp(root, "c23").manifest
    return manifest[manifest["split"] == split].reset_index(drop=True)


@pytest.fixture
def broken(tiny_ffpp: Path, tmp_path: Path) -> Path:
    """A tree in which a training and a test frame are no images."""
    root = shutil.copytree(tiny_ffpp, tmp_path / "broken")
    reals = root / "original_sequences/youtube/c23/faces"
    (reals / "000/0003.png").write_text("no image")
    data = (reals / "008/0000.png").read_bytes()
    (reals / "008/0000.png").write_bytes(data[: len(data) // 2])
    return root


def evaluation(root: Path, on_error: str, workers: int = 0, batch: int = 4):
    dataset = FrameDataset(rows_of(root, "test"), root, 48, on_error)
    batches = EvaluationBatches(EveryNth(len(dataset)), batch)
    return loader(dataset, workers, False, 0, batch_sampler=batches)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((m, "PNG") for m in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *((m, "JPEG") for m in ("RGB", "L", "CMYK")),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
    ],
)
def test_torchvision_and_pillow_decode_alike(mode, form, monkeypatch):
    data = encoded(mode, form)
    by_torchvision = decode(data)
    monkeypatch.setattr(decoding, "decode_image", None)
    by_pillow = decode(data)
    assert by_torchvision.shape == (3, 20, 28)
    assert by_torchvision.dtype == torch.uint8
    assert torch.equal(by_torchvision, by_pillow)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(by_pillow.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("fallback", [False, True])
def test_of_sixteen_bits_the_high_byte_is_kept(fallback, monkeypatch):
    if fallback:
        monkeypatch.setattr(decoding, "decode_image", None)
    grey = PIXELS[..., 0].astype(np.uint16) * 256 + 17
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    assert np.array_equal(decode(file.getvalue())[1].numpy(), PIXELS[..., 0])


def test_what_is_no_image_is_refused_in_a_few_words(tmp_path):
    for data, message in (
        (b"", "empty"),
        (b"hello", "not an image"),
        (encoded("RGB", "PNG")[:700], "a broken image"),
        (encoded("RGB", "JPEG")[:400], "a broken image"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            decode(data)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="No such file"):
        read_frame(tmp_path / "gone.png", 8)


def test_resizing_is_antialiased_bilinear_and_square():
    image = torch.from_numpy(PIXELS[..., :3]).permute(2, 0, 1)
    small = resize(image, 9)
    expected = F.interpolate(image[None].float(), (9, 9), mode="bilinear", antialias=True)[0]
    assert small.dtype == torch.uint8
    assert (small.float() - expected).abs().max() <= 1
    assert resize(small, 9) is small


def test_a_batch_is_what_the_files_hold(tiny_ffpp):
    batch = next(iter(evaluation(tiny_ffpp, "fail")))
    table = rows_of(tiny_ffpp, "test")
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (4, 3, 48, 48)
    assert batch["label"].tolist() == table["label"][:4].tolist()
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["skipped"].tolist() == []
    first = np.array(Image.open(tiny_ffpp / table["path"][0]))
    assert np.array_equal(batch["image"][0].permute(1, 2, 0).numpy(), first)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_rows_of_an_uneven_process_end_in_an_empty_batch(tiny_ffpp, workers):
    dataset = FrameDataset(rows_of(tiny_ffpp, "test"), tiny_ffpp, 48)
    batches = EvaluationBatches(EveryNth(3, rank=1, world=2), 1)
    *_, last = loader(dataset, workers, False, 0, batch_sampler=batches)
    assert last["image"].shape == (0, 3, 48, 48)
    assert last["index"].tolist() == last["skipped"].tolist() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_packed_frames_equals_that_of_the_images(tiny_ffpp, tmp_path, workers):
    table = rows_of(tiny_ffpp, "test")
    packed = table.copy()
    for video, rows in table.groupby(["method", "video"]):
        file = tmp_path / f"{'_'.join(video)}.npy"
        images = [read_frame(tiny_ffpp / path, 48).numpy() for path in rows["path"]]
        write_pack(file, rows["frame"].tolist(), np.stack(images))
        packed.loc[rows.index, "path"] = [f"{file.name}#{i}" for i in range(len(rows))]
    for size in (48, 20):
        batches = []
        for root, of in ((tiny_ffpp, table), (tmp_path, packed)):
            rows = EvaluationBatches(EveryNth(len(of)), 16)
            dataset = FrameDataset(of, root, size)
            batches.append(list(loader(dataset, workers, False, 0, batch_sampler=rows)))
        for images, records in zip(*batches, strict=True):
            assert all(
                torch.equal(images[key], records[key]) for key in ("image", "label", "index")
            )


def test_a_record_that_is_not_there_is_an_unreadable_frame(tmp_path, tiny_ffpp):
    table = rows_of(tiny_ffpp, "test").assign(path="000.npy#4")
    write_pack(tmp_path / "000.npy", [3, 5], np.zeros((2, 3, 8, 8), np.uint8))
    batch = FrameDataset(table, tmp_path, 8)[0]
    assert isinstance(batch, Unreadable)
    assert batch.message.startswith(f"cannot read {tmp_path}/000.npy#4: it has 2 frames and no")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_frame_ends_the_run_with_one_line_that_names_it(broken, workers):
    message = ""
    try:
        list(evaluation(broken, "fail", workers))
    except TokdError as error:  # pytest.raises would keep the loader and its workers alive
        message = str(error)
    assert message.startswith(f"cannot read {broken}/original_sequences/youtube/c23/faces/008/0000")
    assert "--data.on_error skip" in message
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_leaves_an_unreadable_frame_out_and_counts_it(broken, workers):
    batches = evaluation(broken, "skip", workers)
    with pytest.warns(UserWarning, match=r"008/0000\.png cannot be read and is skipped"):
        seen = list(batches)
    assert seen[0]["index"].tolist() == [1, 2, 3]
    assert seen[0]["skipped"].tolist() == [0]
    assert batches.dataset.skipped == {0}
    assert sum(len(batch["index"]) for batch in seen) == len(batches.dataset) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(list(batches)) == len(seen)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_batch_may_be_empty(broken, workers):
    with pytest.warns(UserWarning, match="skipped"):
        first = next(iter(evaluation(broken, "skip", workers, batch=1)))
    assert first["image"].shape == (0, 3, 48, 48)
    assert first["image"].dtype == torch.uint8
    assert len(first["label"]) == len(first["index"]) == 0
    assert first["skipped"].tolist() == [0]


def test_training_takes_the_nearest_readable_frame_of_the_same_video_instead(broken):
    table = rows_of(broken, "train")
    (bad,) = table.index[table["path"].str.endswith("/000/0003.png")]
    batch = FrameDataset(table, broken, 48, "skip", substitute=True)[bad]
    assert batch["skipped"].tolist() == [bad]
    assert batch["index"].tolist() == [bad - 1]
    assert torch.equal(batch["image"][0], read_frame(broken / table["path"][bad - 1], 48))


def test_training_falls_back_on_another_video_of_the_same_label(broken):
    table = rows_of(broken, "train")
    bad = table.index[(table["video"] == "000")].tolist()
    for row in bad:
        (broken / table["path"][row]).write_text("no image")
    batch = FrameDataset(table, broken, 48, "skip", substitute=True)[bad[1]]
    assert sorted(batch["skipped"].tolist()) == bad
    assert batch["label"].tolist() == [0]
    assert table["video"][batch["index"].item()] == "001"


def test_training_gives_up_when_no_frame_of_a_label_can_be_read(broken):
    table = rows_of(broken, "train")
    for path in table["path"][table["label"] == 0]:
        (broken / path).write_text("no image")
    batch = FrameDataset(table, broken, 48, "skip", substitute=True)[0]
    assert isinstance(batch, Unreadable)
    assert "nor can any other real training frame" in batch.message


def test_the_order_does_not_depend_on_the_number_of_workers(tiny_ffpp):
    table = rows_of(tiny_ffpp, "train")
    seen = []
    for workers in (0, 1, 2):
        dataset = FrameDataset(table, tiny_ffpp, 48, substitute=True)
        batches = TrainingBatches(table["label"].to_numpy(), 24, "half_batch", seed=4)
        batches.set_epoch(1)
        seen.append(list(loader(dataset, workers, False, 4, batch_sampler=batches)))
    for other in seen[1:]:
        for a, b in zip(seen[0], other, strict=True):
            assert torch.equal(a["index"], b["index"])
            assert torch.equal(a["image"], b["image"])
            assert a["step"] == b["step"]


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_generator_alone(tiny_ffpp, workers):
    state = torch.get_rng_state()
    list(evaluation(tiny_ffpp, "fail", workers, batch=40))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loader_goes_on_where_its_state_was_taken(tiny_ffpp):
    table = rows_of(tiny_ffpp, "train")

    def fresh():
        batches = TrainingBatches(table["label"].to_numpy(), 24, seed=4)
        dataset = FrameDataset(table, tiny_ffpp, 48)
        return loader(dataset, 0, False, 4, batch_sampler=batches)

    whole = fresh()
    whole.batch_sampler.set_epoch(1)
    iterator = iter(whole)
    head = [next(iterator) for _ in range(2)]
    state = whole.state_dict()
    assert state == {"epoch": 1, "batch": 2}
    assert [batch["step"] for batch in head] == [5, 6]
    resumed = fresh()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.batch_sampler.set_epoch(1)
    for a, b in zip(iterator, resumed, strict=True):
        assert torch.equal(a["index"], b["index"])
        assert a["step"] == b["step"]
    assert len(list(resumed)) == len(resumed) == 5
