"""Samples of several frames of one video."""

from types import SimpleNamespace

import kornia.augmentation as K
import pytest
import torch
from torch import nn

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare.options import Options


def data(root, training=True, **options):
    defaults = {"quality": "c23", "size": 48, "batch_size": 6, "num_workers": 0, "clip": 2}
    module = FFPPDataModule(root, **(defaults | options))
    module.trainer = SimpleNamespace(
        training=training, global_rank=0, world_size=1, is_global_zero=True
    )
    return module


def test_a_clip_is_consecutive_rows_of_one_video(tiny_ffpp):
    frames, clips = data(tiny_ffpp, clip=None), data(tiny_ffpp)
    table, rows = clips.table("val"), frames.table("val")
    assert len(table) == len(rows) // 2
    single = frames._dataset("val").__getitems__([*range(len(rows))])["image"]
    where = {path: n for n, path in enumerate(rows["path"])}
    seen = 0
    for batch in clips.val_dataloader():
        assert batch["image"].shape[1:] == (2, 3, 48, 48)
        for row, clip in zip(batch["index"].tolist(), batch["image"], strict=True):
            first = where[table["path"][row]]
            assert rows["video"][first] == rows["video"][first + 1]
            assert torch.equal(clip, single[first : first + 2])
            seen += 1
    assert seen == len(table)


def test_frames_that_fill_no_clip_are_counted(tiny_ffpp, capsys):
    module = data(tiny_ffpp, clip=3)
    module.setup("fit")
    out = " ".join(capsys.readouterr().out.split())
    assert "30 train frames are not used: their video has no 3 more" in out
    assert len(module.table("train")) == 30


def test_frames_of_a_clip_are_cropped_and_augmented_alike(tiny_ffpp):
    augmentation = [K.RandomHorizontalFlip(p=0.5), K.ColorJiggle(0.2, 0.2, p=1.0)]
    module = data(tiny_ffpp, crop=40, augmentation=augmentation)
    still = torch.randint(0, 256, (6, 1, 3, 48, 48), dtype=torch.uint8)
    found = []
    for _ in range(2):
        batch = {"image": still.repeat(1, 4, 1, 1, 1), "step": 3}
        found.append(module.on_after_batch_transfer(batch, 0)["image"])
    image = found[0]
    assert torch.equal(*found)
    assert image.shape == (6, 4, 3, 40, 40)
    assert torch.equal(image, image[:, :1].expand_as(image))
    module.trainer.training = False
    centre = module.on_after_batch_transfer({"image": still, "step": 3}, 0)["image"]
    assert torch.allclose(centre[:, 0] * 127.5 + 127.5, still[:, 0, :, 4:44, 4:44].float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0}, "clip must be at least 1, not 0"),
        ({"forge": "sbi"}, "clips consist of stored frames only"),
        ({"teacher_quality": "c40"}, "clips consist of stored frames only"),
    ],
)
def test_contradictions_are_one_line(tiny_ffpp, options, message):
    with pytest.raises(TokdError, match=message):
        data(tiny_ffpp, **options)


def test_needs_and_clips_must_agree(tiny_ffpp):
    data(tiny_ffpp).require(["clip"])
    with pytest.raises(TokdError, match="reads clips of frames: give their length"):
        data(tiny_ffpp, clip=None).require(["clip"])
    with pytest.raises(TokdError, match="clips have neither masks nor landmarks"):
        data(tiny_ffpp).require(["mask"])
    module = data(tiny_ffpp, augmentation=[nn.Identity()])
    with pytest.raises(TokdError, match="the frames of a clip cannot be changed alike"):
        module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)


def test_prepared_clips_are_runs_of_consecutive_frames_over_the_whole_video():
    chosen = Options(frames=32, clips=8).chosen(300)
    starts = chosen[::8]
    assert chosen == [s + n for s in starts for n in range(8)]
    assert len(starts) == 4
    assert starts == [36, 109, 183, 256]  # the middles of four quarters of 293 starts
    assert Options(frames=8, clips=4).chosen(5) == [0, 1, 2, 3, 4]
    assert Options(frames=8, clips=4).chosen(3) == [0, 1, 2]
    assert Options(frames=4).chosen(8) == [1, 3, 5, 7]
    with pytest.raises(TokdError, match="--clips 5 must divide --frames 32"):
        Options(clips=5)


def test_records_of_earlier_preparations_stay_as_they_are():
    assert {"masks", "clips"}.isdisjoint(Options().record)
    assert Options(masks=True, clips=8).record.items() >= {"masks": True, "clips": 8}.items()
