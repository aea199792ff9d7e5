"""Forged rows, masks and landmarks in the batches of a data module."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from trees import make_ffpp

from tokd_lightning.data.augment import Augmentation
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.landmarks import MIRROR, write_landmarks
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.errors import TokdError

POINTS = ProceduralCast(0, 48).portrait(0).points.astype(np.float32)


def annotate(root: Path, leave_out: int = 0) -> Path:
    """Write landmarks of every frame and a mask of every fake into a tree."""
    rows = []
    for file in sorted(root.rglob("faces/*/*.png"), key=lambda f: ("manip" in str(f), f)):
        if "masks" in file.parts:
            continue
        place = file.relative_to(root)
        shift = int(place.parent.name[:3]) / 10
        rows.append(([place.as_posix()], POINTS + np.float32(shift)))
        if place.parts[0] == "manipulated_sequences":
            mask = root.joinpath(*place.parts[:2], "masks", *place.parts[3:])
            mask.parent.mkdir(parents=True, exist_ok=True)
            levels = np.zeros((48, 48), np.uint8)
            levels[10:30, 5 : 20 + int(place.parent.name[2])] = 200
            Image.fromarray(levels).save(mask)
    write_landmarks(root / "landmarks.csv", ["path"], rows[leave_out:])
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return annotate(make_ffpp(tmp_path_factory.mktemp("annotated")))


def data(root, *needs, training=True, **options):
    defaults = {"quality": "c23", "size": 48, "batch_size": 8, "num_workers": 0}
    module = FFPPDataModule(root, **(defaults | options))
    module.trainer = SimpleNamespace(
        training=training, global_rank=0, world_size=1, is_global_zero=True
    )
    module.require(needs)
    return module


def batches(module, epoch=0):
    loader = module.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return [{k: v.clone() if torch.is_tensor(v) else v for k, v in b.items()} for b in loader]


def equal(one, two):
    return one.keys() == two.keys() and all(
        torch.equal(one[k], two[k]) if torch.is_tensor(one[k]) else one[k] == two[k] for k in one
    )


@pytest.mark.parametrize("forge", ["sbi", "bi"])
def test_half_of_a_batch_is_forged_from_the_other_half(tree, forge):
    module = data(tree, "mask", forge=forge, batch_size=12)
    table = module.table("train")
    assert set(table["method"]) == {"real", forge}
    assert not table["path"].str.contains("manipulated").any()
    for batch in batches(module):
        assert batch["label"].tolist() == [0, 1] * 6
        rows = table.loc[batch["index"].tolist()]
        assert (rows["label"].to_numpy() == batch["label"].numpy()).all()
        assert (rows["path"][::2].to_numpy() == rows["path"][1::2].to_numpy()).all()
        for real, fake, mask in zip(
            batch["image"][::2], batch["image"][1::2], batch["mask"][1::2], strict=True
        ):
            assert mask.any()
            changed = (real != fake).any(0)
            assert changed[mask[0] > mask.max() / 2].float().mean() > 0.3
        assert not batch["mask"][::2].any()


def test_test_frames_are_never_forged(tree):
    plain, forging = data(tree), data(tree, forge="sbi")
    assert plain.table("test").equals(forging.table("test"))
    one, two = (next(iter(m.test_dataloader())) for m in (plain, forging))
    assert equal(one, two)


def test_validation_is_forged_once_per_row_and_always_alike(tree):
    module = data(tree, forge="sbi", batch_size=4)
    seen = [
        {
            row: image
            for b in loader
            for row, image in zip(b["index"].tolist(), b["image"], strict=True)
        }
        for loader in (module.val_dataloader(), data(tree, forge="sbi").val_dataloader())
    ]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(len(module.table("val"))))
    assert module.table("val")["label"].mean() == 0.5
    assert all(torch.equal(seen[0][row], seen[1][row]) for row in seen[0])


def test_samples_depend_on_seed_epoch_and_row_alone(tree):
    one, two = batches(data(tree, forge="sbi")), batches(data(tree, forge="sbi"))
    assert all(equal(a, b) for a, b in zip(one, two, strict=True))

    def of_row(found, row=30):
        return next(b["image"][b["index"] == row] for b in found if row in b["index"])

    again, other = batches(data(tree, forge="sbi"), 1), batches(data(tree, forge="sbi", seed=1))
    assert not torch.equal(of_row(one), of_row(again))
    assert not torch.equal(of_row(one), of_row(other))
    fewer = batches(data(tree, forge="sbi", batch_size=6))
    assert torch.equal(of_row(one), of_row(fewer))  # not on its batch


def test_resume_in_an_epoch_and_workers_give_the_same_batches(tree):
    whole = batches(data(tree, "mask", "landmarks", forge="bi"), 2)
    loader = data(tree, "mask", "landmarks", forge="bi", num_workers=1).train_dataloader()
    loader.load_state_dict({"epoch": 2, "batch": 1})
    rest = list(loader)
    del loader
    assert all(equal(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_two_processes_forge_what_one_would(tree):
    halves = []
    for rank in range(2):
        module = data(tree, forge="sbi")
        module.trainer.global_rank, module.trainer.world_size = rank, 2
        halves.append(batches(module))
    for whole, *parts in zip(batches(data(tree, forge="sbi")), *halves, strict=True):
        assert torch.equal(whole["image"], torch.cat([part["image"] for part in parts]))


def test_masks_and_landmarks_follow_crop_and_flip(tree):
    flip = [K.RandomHorizontalFlip(p=1.0)]
    module = data(tree, "mask", "landmarks", crop=40, augmentation=flip)
    batch = batches(module)[0]
    before = {k: batch[k].clone() for k in ("image", "mask", "landmarks")}
    after = module.on_after_batch_transfer(batch, 0)
    assert after["mask"].shape == (8, 1, 40, 40)
    assert after["mask"].dtype == torch.float32
    assert set(after["mask"].unique().tolist()) <= {0.0, 1.0}
    alone = data(tree, crop=40, augmentation=flip)
    without = alone.on_after_batch_transfer({"image": before["image"], "step": batch["step"]}, 0)
    assert torch.equal(after["image"], without["image"])
    for image, mask, points, raw, hard, known in zip(
        *(after[k] for k in before), *before.values(), strict=True
    ):
        back = (points - torch.tensor([39.0, 0])) * torch.tensor([-1.0, 1])
        shift = (known - back[MIRROR.tolist()])[0].round().int().tolist()
        window = slice(shift[1], shift[1] + 40), slice(shift[0], shift[0] + 40)
        assert torch.allclose(known - torch.tensor(shift), back[MIRROR.tolist()], atol=1e-4)
        assert torch.equal(mask.flip(-1)[0] * 255, hard[0][window])
        assert torch.allclose(image.flip(-1) * 127.5 + 127.5, raw[(..., *window)].float())


def test_evaluation_crops_the_centre_of_all(tree):
    module = data(tree, "mask", "landmarks", crop=40, training=False)
    batch = next(iter(module.val_dataloader()))
    before = batch["landmarks"].clone(), batch["mask"].clone()
    after = module.on_after_batch_transfer(batch, 0)
    assert torch.allclose(after["landmarks"], before[0] - 4)
    assert torch.equal(after["mask"] * 255, before[1][..., 4:44, 4:44])


def test_frames_and_points_are_resized_alike(tree):
    large, small = (next(iter(data(tree, "landmarks", size=n).val_dataloader())) for n in (96, 24))
    assert torch.allclose((large["landmarks"] + 0.5) / 4, small["landmarks"] + 0.5, atol=1e-4)
    table = data(tree).table("val")
    shift = int(table["video"][0][:3]) / 10
    wanted = (torch.from_numpy(POINTS) + shift + 0.5) * 2 - 0.5
    assert torch.allclose(large["landmarks"][0], wanted, atol=0.02)


@pytest.mark.parametrize(
    "augmentation",
    [
        [K.RandomHorizontalFlip(p=0.5), K.RandomBrightness((0.8, 1.2), p=1.0)],
        [K.ImageSequential(K.RandomAffine(10.0, p=1.0), K.RandomHorizontalFlip(p=0.5))],
        [K.RandomRotation(20.0, p=0.5), K.RandomGaussianBlur((3, 3), (1.0, 2.0), p=0.5)],
    ],
)
def test_images_do_not_depend_on_whether_something_follows(augmentation):
    images = torch.rand(6, 3, 32, 32)
    points = torch.from_numpy(POINTS / 48 * 32).repeat(6, 1, 1)
    points[2] = torch.nan
    torch.manual_seed(3)
    alone = Augmentation(*augmentation)(images)
    torch.manual_seed(3)
    followers = {"mask": torch.ones(6, 1, 32, 32), "landmarks": points}
    together, moved = Augmentation(*augmentation).together(images, followers)
    assert torch.equal(alone, together)
    assert moved["landmarks"][2].isnan().all()
    eyes = moved["landmarks"][:, 36:48].reshape(6, 2, 6, 2).mean(2)
    kept = torch.arange(6) != 2
    assert (eyes[kept, 0, 0] < eyes[kept, 1, 0]).all()  # left stays left


def test_what_is_not_kornia_s_cannot_be_followed(tree):
    module = data(tree, "mask", augmentation=[nn.Identity()])
    with pytest.raises(TokdError, match="Identity is not one of Kornia's modules"):
        module.on_after_batch_transfer(batches(module)[0], 0)


@pytest.mark.slow
def test_missing_landmarks_are_counted_and_limited(tmp_path, capsys):
    root = annotate(make_ffpp(tmp_path / "tree", ids=14, frames=12), leave_out=1)
    module = data(root, forge="sbi")
    module.setup("fit")
    out = " ".join(capsys.readouterr().out.split())
    assert "1 of 120 frames (0.83%) have no landmarks in train: they are left out" in out
    assert "half are forged from them (sbi)" in out
    assert "only a part" not in out
    assert len(module.table("train")) == 2 * 119
    module = data(root, "landmarks")
    batch = module._dataset("train").__getitems__([*range(600)])
    assert batch["landmarks"].isnan().all((1, 2)).sum() == 1
    annotate(root, leave_out=2)
    with pytest.raises(TokdError, match=r"2 of 120 frames \(1.67%\) have no landmarks"):
        data(root, forge="sbi").table("train")
    (root / "landmarks.csv").unlink()
    with pytest.raises(TokdError, match="find the landmarks with `tokd landmarks"):
        data(root, "landmarks").table("train")


def test_missing_masks_are_counted_and_limited(tmp_path, capsys):
    root = annotate(make_ffpp(tmp_path / "tree", frames=6))
    masks = sorted(root.rglob("masks/faces/000_*/*.png"))
    masks[0].unlink()
    module = data(root, "mask")
    module.setup("fit")
    said = "1 of 180 frames (0.56%) have no mask in train: they are left out"
    assert said in " ".join(capsys.readouterr().out.split())
    assert len(module.table("train")) == 179
    shutil.rmtree(root / "manipulated_sequences/FaceSwap/masks")
    with pytest.raises(TokdError, match=r"37 of 180 .* have no mask.*at most 1 % may lack them"):
        data(root, "mask").table("train")


def test_a_broken_mask_is_an_unreadable_frame(tmp_path):
    root = annotate(make_ffpp(tmp_path / "tree"))
    for file in root.rglob("masks/faces/*/*.png"):
        file.write_bytes(b"")
    with pytest.raises(TokdError, match=r"cannot read .*masks.*\.png: the file is empty"):
        batches(data(root, "mask"))


def test_the_hash_covers_landmarks_masks_and_the_rows_in_use(tree, tmp_path):
    plain = data(tree).data_hashes()
    assert {"landmarks", "masks"}.isdisjoint(plain["rows"])
    hashes = {
        name: data(tree, *needs, **options).data_hash()
        for name, needs, options in (
            ("landmarks", ["landmarks"], {}),
            ("mask", ["mask"], {}),
            ("forge", [], {"forge": "sbi"}),
        )
    }
    assert len({plain["data"], *hashes.values()}) == 4
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    text = (copy / "landmarks.csv").read_text()
    assert data(copy, "landmarks").data_hash() == hashes["landmarks"]
    first = text.splitlines()[-1]
    (copy / "landmarks.csv").write_text(text.replace(first, first[:-1] + "9"))
    assert data(copy, "landmarks").data_hash() != hashes["landmarks"]
    assert data(tree, forge="sbi").fold_hash() == data(tree).fold_hash()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forge": "xyz"}, "no forging method 'xyz': choose from bi and sbi"),
        ({"forge": "sbi", "balance": "repeat_real"}, "leave out balance repeat_real"),
        ({"forge": "sbi", "batch_size": 7}, "forge needs an even batch size, not 7"),
        ({"forge": "sbi", "teacher_quality": "c40"}, "leave out forge or teacher_quality"),
        ({"forge_options": {"shift": 3}}, "name it with --data.forge"),
        ({"forge": "sbi", "forge_options": {"shfit": 3}}, "sbi has no option 'shfit': choose"),
    ],
)
def test_contradictions_are_one_line(tree, options, message):
    with pytest.raises(TokdError, match=message):
        data(tree, **options)


def test_only_masks_and_landmarks_can_be_required(tree):
    with pytest.raises(TokdError, match="batches cannot contain 'depth'"):
        data(tree, "depth")
