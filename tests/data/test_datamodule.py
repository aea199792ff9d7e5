import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from trees import make_ffpp

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.layouts import frame_cache
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError


def data(root: Path, **options) -> FFPPDataModule:
    defaults = {"quality": "c23", "size": 48, "batch_size": 8, "num_workers": 0}
    return FFPPDataModule(root, **(defaults | options))


def rows_of(loader) -> list[int]:
    return [row for batch in loader for row in batch["index"].tolist()]


def process(training=True, rank=0, world=1):
    """What a data module asks of its trainer."""
    return SimpleNamespace(
        training=training,
        global_rank=rank,
        world_size=world,
        is_global_zero=rank == 0,
    )


def finished(module: FFPPDataModule, step: int = 0, training: bool = True, **where):
    """One fixed batch as the network would see it."""
    module.trainer = process(training, **where)
    images = torch.arange(8 * 3 * 48 * 48).remainder(251).to(torch.uint8).view(8, 3, 48, 48)
    return module.on_after_batch_transfer({"image": images, "step": step}, 0)["image"]


def test_index_counts_the_rows_of_the_table(tiny_ffpp):
    module = data(tiny_ffpp, balance="half_batch")
    table = module.table("train")
    for batch in module.train_dataloader():
        assert table["label"][batch["index"].tolist()].tolist() == batch["label"].tolist()
    assert len(table) == 6 * 5 * 4
    assert set(module.table("val")["video"].str[:3]) == {"006", "007"}


def test_counts_are_printed_once_when_training_or_a_test_begins(tiny_ffpp, capsys):
    module = data(tiny_ffpp)
    module.setup("validate")
    module.setup("predict")
    assert capsys.readouterr().out == ""
    for stage in ("fit", "test"):
        module = data(tiny_ffpp)
        module.setup(stage)
        module.setup(stage)
        assert capsys.readouterr().out.count("Frames (videos) of ffpp c23") == 1
    other = data(tiny_ffpp)
    other.trainer = process(rank=1)
    other.setup("fit")
    assert capsys.readouterr().out == ""


def test_images_are_normalised_by_mean_and_std(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=1, size=8)
    for file in tmp_path.rglob("*.png"):
        Image.new("RGB", (8, 8), (255, 0, 51)).save(file)
    for mean, std, expected in (
        (0.5, 0.5, [1.0, -1.0, -0.6]),
        ([0.1, 0.2, 0.2], [0.5, 0.25, 1.0], [1.8, -0.8, 0.0]),
    ):
        module = data(tmp_path, size=8, mean=mean, std=std)
        batch = module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0)
        assert batch["image"].dtype == torch.float32
        torch.testing.assert_close(batch["image"][0, :, 3, 3], torch.tensor(expected))


def test_augmentation_depends_on_seed_batch_and_process_alone(tiny_ffpp):
    augmentation = [K.RandomHorizontalFlip(p=0.5), K.ColorJiggle(0.3, 0.3, p=0.9)]
    module = data(tiny_ffpp, crop=40, augmentation=augmentation, seed=1)
    one = finished(module, step=7)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(finished(module, step=7), one)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(finished(module, step=8), one)
    module.seed = 2
    assert not torch.equal(finished(module, step=7), one)
    module = data(tiny_ffpp, augmentation=augmentation)
    ranks = [finished(module, step=7, rank=rank, world=2) for rank in range(2)]
    assert not torch.equal(*ranks)


def test_by_default_half_of_the_training_images_are_flipped(tiny_ffpp):
    module = data(tiny_ffpp)
    plain = finished(module, training=False)
    flipped = 0
    for step in range(20):
        for image, original in zip(finished(module, step), plain, strict=True):
            assert torch.equal(image, original) or torch.equal(image, original.flip(-1))
            flipped += not torch.equal(image, original)
    assert 55 < flipped < 105


def test_an_empty_list_augments_nothing(tiny_ffpp):
    module = data(tiny_ffpp, augmentation=[])
    assert torch.equal(finished(module), finished(module, training=False))


def test_evaluation_crops_the_centre_and_augments_nothing(tiny_ffpp):
    augmentation = [K.RandomHorizontalFlip(p=1.0), K.ColorJiggle(0.3, p=1.0)]
    module = data(tiny_ffpp, crop=40, augmentation=augmentation)
    assert module.input_size == 40
    whole = finished(data(tiny_ffpp), training=False)
    assert torch.equal(finished(module, training=False), whole[..., 4:44, 4:44])
    module.trainer = None
    batch = next(iter(module.val_dataloader()))
    assert module.on_after_batch_transfer(batch, 0)["image"].shape == (8, 3, 40, 40)


def test_two_processes_train_on_what_one_would_and_test_on_everything_once(tiny_ffpp):
    def seen(rank, world, part):
        module = data(tiny_ffpp, batch_size=16, seed=5)
        module.trainer = process(rank=rank, world=world)
        return [b["index"].tolist() for b in getattr(module, f"{part}_dataloader")()]

    first, second = (seen(rank, 2, "train") for rank in range(2))
    assert [a + b for a, b in zip(first, second, strict=True)] == seen(0, 1, "train")
    parts = [row for rank in range(3) for rows in seen(rank, 3, "test") for row in rows]
    assert sorted(parts) == list(range(len(data(tiny_ffpp).table("test"))))


def test_a_batch_that_cannot_be_divided_is_refused(tiny_ffpp):
    module = data(tiny_ffpp, batch_size=9)
    module.trainer = process(world=2)
    with pytest.raises(TokdError, match="batch of 9 cannot be divided equally among 2 processes"):
        module.train_dataloader()
    assert len(module.test_dataloader()) > 0
    module = data(tiny_ffpp, batch_size=12)
    module.trainer, module.accumulate = process(world=2), 3
    assert next(iter(module.train_dataloader()))["image"].shape[0] == 2


def test_class_weights_make_both_classes_count_alike(tiny_ffpp):
    assert data(tiny_ffpp).class_weights is None
    weights = data(tiny_ffpp, balance="loss_weight").class_weights
    torch.testing.assert_close(weights, torch.tensor([2.5, 0.625]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 49}, "crop must be between 1 and size 48, not 49"),
        ({"frames_per_video": 0}, "frames_per_video must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"samples_per_epoch": 0}, "samples_per_epoch must be at least 1, not 0"),
        ({"num_workers": -1}, "num_workers must be 0 or larger, not -1"),
        ({"seed": -1}, "seed must be 0 or larger, not -1"),
    ],
)
def test_numbers_out_of_range_are_refused(tiny_ffpp, options, message):
    with pytest.raises(TokdError, match=message):
        data(tiny_ffpp, **options)


def test_a_split_without_frames_is_named(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=1, size=8)
    (tmp_path / "splits/val.json").write_text("[]")
    module = data(tmp_path, size=8)
    assert len(module.test_dataloader()) > 0
    with pytest.raises(TokdError, match="no frames in the split val"):
        module.val_dataloader()


def test_the_index_is_checked_before_it_is_used(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=2, size=8)
    folder = tmp_path / "original_sequences/youtube/c23/faces/000"
    (folder / "copy_3.png").write_bytes((folder / "0003.png").read_bytes())
    with pytest.raises(TokdError, match="1 frames are listed twice"):
        data(tmp_path, size=8).setup("fit")


def test_unreadable_frames_are_counted_per_split(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=2, size=8)
    for video in ("000", "004"):
        (tmp_path / f"original_sequences/youtube/c23/faces/{video}/0003.png").write_text("x")
    module = data(tmp_path, size=8, batch_size=4, on_error="skip")
    assert module.skipped == {"train": set(), "val": set(), "test": set()}
    with pytest.warns(UserWarning, match="cannot be read and is skipped"):
        trained = rows_of(module.train_dataloader())
    with pytest.warns(UserWarning, match="cannot be read and is skipped"):
        tested = rows_of(module.test_dataloader())
    assert module.skipped == {"train": {1}, "val": set(), "test": {1}}
    assert len(trained) == 20
    assert 1 not in trained
    assert sorted({*tested, 1}) == list(range(20))


def test_three_processes_predict_every_frame_once(tiny_ffpp):
    seen = []
    for rank in range(3):
        module = data(tiny_ffpp, batch_size=16)
        module.trainer = process(rank=rank, world=3)
        seen += rows_of(module.predict_dataloader())
    assert sorted(seen) == list(range(40))


def test_yaml_builds_the_module_with_its_kornia_modules(tiny_ffpp, tmp_path):
    config = tmp_path / "data.yaml"
    config.write_text(f"""
data:
  class_path: FFPPDataModule
  init_args:
    root: {tiny_ffpp}
    quality: c23
    methods: [Deepfakes, FaceSwap]
    crop: 96
    size: 128
    balance: half_batch
    num_workers: 0
    mean: [0.5, 0.4, 0.3]
    augmentation:
      - class_path: kornia.augmentation.RandomHorizontalFlip
        init_args: {{p: 0.25}}
      - class_path: kornia.augmentation.RandomBrightness
        init_args: {{brightness: [0.8, 1.2]}}
      - class_path: kornia.augmentation.ColorJiggle
        init_args: {{brightness: 0.2, contrast: [0.8, 1.2]}}
      - class_path: kornia.augmentation.RandomGaussianBlur
        init_args: {{kernel_size: [3, 3], sigma: [0.1, 1.0]}}
""")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(FrameDataModule, "data")
    parsed = parser.parse_args(["--config", str(config), "--data.seed", "3"])
    module = parser.instantiate_classes(parsed).data
    assert isinstance(module, FFPPDataModule)
    kinds = [K.RandomHorizontalFlip, K.RandomBrightness, K.ColorJiggle, K.RandomGaussianBlur]
    assert [type(layer) for layer in module.augmentation] == kinds
    assert (module.seed, module.input_size, module.mean) == (3, 96, [0.5, 0.4, 0.3])
    assert module.methods == ["Deepfakes", "FaceSwap"]
    module.trainer = process()
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert batch["image"].shape == (64, 3, 96, 96)


@pytest.mark.parametrize("content", [b"", b"no pack", None])
def test_a_broken_pack_obeys_on_error(tmp_path, capsys, monkeypatch, content):
    monkeypatch.setattr(frame_cache, "time_ns", lambda now=time.time_ns: now() + 10**10)
    make_ffpp(tmp_path, ids=10, frames=2, size=8)
    for part in list(tmp_path.glob("*/*/c23")):
        shutil.copytree(part, part.with_name("c40"))
    folder = next(tmp_path.glob("original_sequences/*/c23/*/000"))
    shutil.rmtree(folder)
    pack = folder.with_name("000.npy")
    write_pack(pack, [0, 1], np.zeros((2, 3, 8, 8), np.uint8))
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-1] if content is None else content)
    with pytest.raises(TokdError, match=rf"{pack}.*delete it and run `tokd prepare` again"):
        data(tmp_path).setup("fit")
    with pytest.raises(TokdError, match=rf"{pack}"):
        data(tmp_path, quality="c40", teacher_quality="c23").setup("fit")
    module = data(tmp_path, on_error="skip")
    module.setup("fit")
    assert "1 videos have no frames at all" in " ".join(capsys.readouterr().out.split())
    real = module.manifest["method"] == "real"
    assert "000" not in set(module.manifest["video"][real])
    pack.write_bytes(whole)
    again = data(tmp_path).manifest
    assert sum((again["method"] == "real") & (again["video"] == "000")) == 2
    write_pack(pack, [], np.zeros((0, 3, 8, 8), np.uint8))
    data(tmp_path).setup("fit")
