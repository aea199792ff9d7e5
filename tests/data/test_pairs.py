import shutil
from pathlib import Path
from types import SimpleNamespace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from PIL import Image
from trees import METHODS, make_ffpp

from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError

SIZE = 24
KINDS = ("real", *METHODS)


def data(root: Path, **options) -> FFPPDataModule:
    defaults = {"quality": "c40", "teacher_quality": "c23", "size": SIZE, "batch_size": 8}
    return FFPPDataModule(root, num_workers=0, **(defaults | options))


def training(module: FFPPDataModule, rank: int = 0, world: int = 1) -> FFPPDataModule:
    module.trainer = SimpleNamespace(
        training=True,
        global_rank=rank,
        world_size=world,
        accumulate_grad_batches=1,
        is_global_zero=True,
    )
    return module


def faces(root: Path, quality: str, method: str = "real") -> Path:
    part = "original_sequences/youtube" if method == "real" else f"manipulated_sequences/{method}"
    return root / part / quality / "faces"


def code(method: str, video: str, frame: int, quality: str) -> list[int]:
    """A colour that says which frame of which video at which quality an image is."""
    return [
        KINDS.index(method) * 40 + (20 if quality == "c23" else 0),
        int(video[:3]) * 20,
        frame * 5,
    ]


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    """Images that show nothing but their key; videos are longer at c23, by a different number."""
    root = make_ffpp(tmp_path / "coded", frames=5, size=8, qualities=("c23", "c40"))
    for quality in ("c23", "c40"):
        for method in KINDS:
            for video in faces(root, quality, method).iterdir():
                shutil.rmtree(video)
                video.mkdir()
                more = int(video.name[:3]) % 4 if quality == "c23" else 0
                for frame in range(9 + more):
                    colour = tuple(code(method, video.name, frame, quality))
                    Image.new("RGB", (SIZE, SIZE), colour).save(video / f"{frame}.png")
    return root


@pytest.fixture
def textured(tmp_path: Path) -> Path:
    """Fine texture, of its own for every frame, of which c40 is a noisy copy."""
    root = make_ffpp(tmp_path / "textured", ids=6, frames=2, size=32, qualities=("c23", "c40"))
    rng = np.random.default_rng(0)
    for file in sorted(root.rglob("c23/**/*.png")):
        clean = rng.integers(40, 216, (32, 32, 3))
        noisy = clean + rng.integers(-20, 21, clean.shape)
        twin = str(file).replace("/c23/", "/c40/")
        for place, image in ((file, clean), (twin, noisy)):
            Image.fromarray(image.astype(np.uint8)).save(place)
    return root


def phase_shift(a: torch.Tensor, b: torch.Tensor) -> tuple[int, int]:
    """Where the phase correlation of two grey images peaks."""
    spectrum = torch.fft.fft2(a) * torch.fft.fft2(b).conj()
    peak = int(torch.fft.ifft2(spectrum / spectrum.abs()).real.argmax())
    return divmod(peak, a.shape[-1])


@pytest.mark.thinned(2)
@pytest.mark.parametrize("balance", ["none", "half_batch"])
def test_both_halves_of_a_pair_show_the_same_frame_of_the_same_video(coded, balance):
    module = data(coded, frames_per_video=4, balance=balance)
    table, seen = module.table("train"), set()
    for batch in module.train_dataloader():
        for n, row in enumerate(batch["index"].tolist()):
            key = tuple(table.loc[row, ["method", "video", "frame"]])
            for name, quality in (("image", "c40"), ("teacher_image", "c23")):
                assert batch[name].dtype == torch.uint8
                assert batch[name][n, :, 3, 5].tolist() == code(*key, quality)
            seen.add(row)
    assert len(table) == 6 * 5 * 4
    assert balance != "none" or seen == set(table.index)


def test_pairing_changes_nothing_about_the_student_s_frames(coded):
    paired, alone = data(coded, frames_per_video=4), data(coded, teacher_quality=None)
    alone.frames_per_video = 4
    assert paired.manifest.drop(columns="teacher_path").equals(alone.manifest)
    for with_teacher, without in zip(
        paired.train_dataloader(), alone.train_dataloader(), strict=True
    ):
        assert torch.equal(with_teacher["index"], without["index"])
        assert "teacher_image" not in without


@pytest.mark.parametrize("rank", [0, 1])
def test_equal_halves_stay_equal_through_crop_and_augmentation(textured, rank):
    for file in textured.rglob("c23/**/*.png"):
        shutil.copy(file, str(file).replace("/c23/", "/c40/"))
    augmentation = [
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(degrees=20.0, translate=(0.1, 0.1), scale=(0.8, 1.2), p=0.8),
        K.RandomBrightness((0.6, 1.4), p=0.8),
        K.RandomGaussianNoise(std=0.1, p=0.5),
    ]
    module = data(textured, size=32, crop=20, mean=[0.4, 0.5, 0.6], augmentation=augmentation)
    for batch in training(module, rank, world=2).train_dataloader():
        raw = batch["image"]
        torch.rand(3)  # what happens in between must not matter
        batch = module.on_after_batch_transfer(batch, 0)
        assert batch["image"].shape == batch["teacher_image"].shape == (4, 3, 20, 20)
        assert torch.equal(batch["image"], batch["teacher_image"])
        assert batch["image"].data_ptr() != batch["teacher_image"].data_ptr()
        assert not torch.equal(batch["image"] * 0.5 + 0.5, raw[..., 6:26, 6:26] / 255)


def test_cropped_and_flipped_pairs_are_aligned(textured):
    module = training(data(textured, size=32, crop=24))
    for batch in module.train_dataloader():
        batch = module.on_after_batch_transfer(batch, 0)
        student, teacher = (batch[key].mean(1) for key in ("image", "teacher_image"))
        assert not torch.equal(student, teacher)
        for one, other in zip(student, teacher, strict=True):
            assert phase_shift(one, other) == (0, 0)
            assert phase_shift(one.roll((2, 3), (0, 1)), other) == (2, 3)


def test_both_halves_are_resized_alike(coded):
    for file in faces(coded, "c23").rglob("*.png"):
        Image.open(file).resize((50, 40)).save(file)
    batch = next(iter(data(coded, size=16).train_dataloader()))
    assert batch["image"].shape == batch["teacher_image"].shape == (8, 3, 16, 16)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("workers", [0, 1])
def test_the_teacher_may_read_packs_and_the_student_images(coded, workers):
    plain = list(data(coded).train_dataloader())
    for method in KINDS:
        for video in faces(coded, "c23", method).iterdir():
            files = sorted(video.iterdir(), key=lambda file: int(file.stem))
            images = np.stack([read_frame(file, SIZE).numpy() for file in files])
            write_pack(video.with_suffix(".npy"), [int(f.stem) for f in files], images)
            shutil.rmtree(video)
    module = data(coded)
    module.num_workers = workers
    for a, b in zip(plain, module.train_dataloader(), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["teacher_image"], b["teacher_image"])


def test_evaluation_reads_the_student_s_quality_alone(coded):
    for video in ("006", "007", "008", "009"):
        for method in KINDS:
            for file in faces(coded, "c23", method).glob(f"{video}*/*.png"):
                file.write_text("no image")
    module = data(coded)
    for loader in (module.val_dataloader(), module.test_dataloader(), module.predict_dataloader()):
        for batch in loader:
            assert "teacher_image" not in batch
    assert len(module.table("val")) == len(module.table("test")) == 2 * 5 * 9


def test_frames_without_a_partner_are_left_out_and_counted(coded, capsys):
    whole = len(data(coded).table("train"))
    (faces(coded, "c23") / "000" / "3.png").unlink()
    (faces(coded, "c23") / "006" / "3.png").unlink()  # validation: no partner is needed
    module = data(coded)
    module.setup("fit")
    module.setup("fit")
    said = " ".join(capsys.readouterr().out.split())
    line = "269 training frames at c40 are paired with c23, 1 (0.37%) have no frame there and are"
    assert said.count(line) == 1
    table = module.table("train")
    assert len(table) == whole - 1 == 269
    assert not ((table["video"] == "000") & (table["frame"] == 3) & (table["label"] == 0)).any()
    assert table.index.tolist() == list(range(269))
    assert len(module.table("val")) == 90
    complete = data(coded, quality="c23", teacher_quality="c40", max_unpaired=1)
    complete.setup("fit")
    assert "269 training frames at c23 are paired with c40, 35 (11.51%)" in capsys.readouterr().out


def test_a_complete_pairing_says_so(textured, capsys):
    data(textured).setup("fit")
    assert "20 training frames at c40 are paired with c23, none is left out" in " ".join(
        capsys.readouterr().out.split()
    )


def test_too_many_frames_without_a_partner_end_the_run(coded):
    for frame in (1, 2, 3):
        (faces(coded, "c23") / "002" / f"{frame}.png").unlink()
    with pytest.raises(TokdError) as caught:
        data(coded).setup("fit")
    message = str(caught.value)
    assert message.startswith("3 of 270 training frames (1.1%) have no frame of the same video and")
    assert "c40/faces/002/1.png" in message
    assert "--data.max_unpaired" in message
    assert "\n" not in message
    assert len(data(coded, max_unpaired=0.02).table("train")) == 267


def test_nothing_in_common_is_an_error_too(coded):
    for file in coded.rglob("c23/faces/*/*.png"):
        file.rename(file.with_name(f"{int(file.stem) + 100}.png"))
    with pytest.raises(TokdError, match=r"270 of 270 training frames \(100.0%\)"):
        data(coded).setup("fit")


def test_a_teacher_s_frame_that_is_there_twice_is_refused(coded):
    frame = faces(coded, "c23") / "000" / "3.png"
    shutil.copy(frame, frame.with_name("copy_3.png"))
    with pytest.raises(TokdError, match=r"1 frames are listed twice, e\.g\. .*c23"):
        data(coded).setup("fit")


@pytest.mark.thinned(2)
@pytest.mark.parametrize("broken", ["c23", "c40"])
def test_a_pair_of_which_one_half_is_unreadable_is_replaced_as_a_whole(coded, broken):
    bad = faces(coded, broken) / "000" / "3.png"
    bad.write_text("no image")
    module = data(coded, on_error="skip", max_unpaired=0)
    table = module.table("train")
    with pytest.warns(UserWarning, match=r"c40/faces/000/3\.png or .*c23/faces/000/3\.png cannot"):
        batches = list(module.train_dataloader())
    (row,) = table.index[(table["video"] == "000") & (table["frame"] == 3)]
    assert module.skipped["train"] == {row}
    seen = [row for batch in batches for row in batch["index"].tolist()]
    assert row not in seen
    assert seen.count(row - 1) == 2
    for batch in batches:
        for n, index in enumerate(batch["index"].tolist()):
            key = tuple(table.loc[index, ["method", "video", "frame"]])
            assert batch["image"][n, :, 0, 0].tolist() == code(*key, "c40")
            assert batch["teacher_image"][n, :, 0, 0].tolist() == code(*key, "c23")
    with pytest.raises(TokdError, match=f"cannot read {bad}: not an image; replace it"):
        list(data(coded).train_dataloader())


@pytest.mark.slow
def test_the_hash_covers_the_teacher_s_frames_and_who_belongs_to_whom(coded):
    alone, paired = data(coded, teacher_quality=None).data_hash(), data(coded).data_hash()
    assert alone != paired
    swapped = data(coded)
    partners = swapped.manifest["teacher_path"]
    rows = partners.index[partners != ""][:2]
    swapped.manifest.loc[rows, "teacher_path"] = partners[rows[::-1]].to_numpy()
    assert swapped.data_hash() != paired
    Image.new("RGB", (SIZE, SIZE)).save(faces(coded, "c23") / "006" / "3.png")
    assert data(coded).data_hash() == paired
    Image.new("RGB", (SIZE, SIZE)).save(faces(coded, "c23") / "000" / "3.png")
    assert data(coded).data_hash() != paired
    assert data(coded, teacher_quality=None).data_hash() == alone
