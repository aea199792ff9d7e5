"""`--data.degrade`: chains of the perturbations of `evaluate --robustness` in training."""

import numpy as np
import pytest
import torch
from trees import make_ffpp

from tokd_lightning.data.degrade import ALL, Degradation, make_degradation
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.frames import FrameDataset
from tokd_lightning.data.perturbations import PERTURBATIONS, perturb
from tokd_lightning.errors import TokdError


def data(root, **options):
    defaults = {"quality": "c23", "size": 32, "batch_size": 8, "num_workers": 0}
    return FFPPDataModule(root, **(defaults | {"degrade": "all"} | options))


def batches(module, epoch=0, first=0):
    loader = module.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    if first:
        loader.batch_sampler.resume(epoch, first)
    return [{k: v.clone() for k, v in b.items() if torch.is_tensor(v)} for b in loader]


def equal(one, two):
    return one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)


@pytest.mark.parametrize("name", ["jpeg", "h264", "blur", "resize"])
def test_a_link_is_the_perturbation_of_robustness(name):
    image = torch.randint(0, 256, (3, 33, 40), generator=torch.manual_seed(0)).to(torch.uint8)
    made = Degradation([name], share=1.0, strength=1.0)
    expected = perturb(image[None] / 255, name, 1, ["x"])[0]
    assert made(image, 1, 2, 3).equal((expected * 255).round().to(torch.uint8))


def test_a_chain_applies_its_links_one_after_another():
    image = torch.randint(0, 256, (3, 32, 32), generator=torch.manual_seed(0)).to(torch.uint8)
    made = Degradation(["jpeg", "resize", "blur", "contrast"], share=1.0, strength=5.0)
    chain = made.draw(4, 5, 6)
    assert {name for name, _ in chain} == {"jpeg", "resize", "blur", "contrast"}
    work = image[None] / 255
    for name, value in chain:
        applied = next(PERTURBATIONS[name].apply(work, (value,), ["x"]))
        work = (applied.clamp(0, 1) * 255).round() / 255
    assert made(image, 4, 5, 6).equal((work[0] * 255).round().to(torch.uint8))


def test_a_fit_says_how_many_images_are_degraded_for_whom_and_by_what(tiny_ffpp, capsys):
    options = {"share": 0.5, "strength": 2}
    given = {"degrade": "blur,jpeg", "degrade_options": options, "degrade_for": "student"}
    module = data(tiny_ffpp, **given)
    module.setup("fit")
    said = " ".join(capsys.readouterr().out.split())
    assert "75% of the training images are degraded, for the student alone: each of" in said
    assert "jpeg, blur with probability 0.5, at strengths from 1 to 2" in said
    drawn = [bool(module.degrade.draw(0, 0, row)) for row in range(2000)]
    assert abs(np.mean(drawn) - 0.75) < 0.03


def test_draws_have_the_share_range_and_order_that_are_documented():
    made = make_degradation("all", {"share": 0.4, "strength": 4})
    chains = [made.draw(0, 0, row) for row in range(3000)]
    for name in ALL:
        values = [dict(chain)[name] for chain in chains if name in dict(chain)]
        assert abs(len(values) / 3000 - 0.4) < 0.03
        first, last = (PERTURBATIONS[name].values[n] for n in (0, 3))
        if name == "brightness":
            darker = [value for value in values if value < 1]
            assert abs(len(darker) / len(values) - 0.5) < 0.06
            values = [min(value, 2 - value) for value in values]
        assert min(first, last) <= min(values) <= max(values) <= max(first, last)
        assert abs(np.mean(values) - np.mean(PERTURBATIONS[name].values[:4])) < 0.1 * abs(
            first - last
        )
    pairs = [[n for n, _ in chain] for chain in chains if {"jpeg", "h264"} <= {*dict(chain)}]
    before = np.mean([names.index("jpeg") < names.index("h264") for names in pairs])
    assert abs(before - 0.5) < 0.1


def test_images_depend_on_seed_epoch_and_row_alone(tiny_ffpp):
    module = data(tiny_ffpp)
    whole = batches(module, 3)
    assert all(map(equal, batches(data(tiny_ffpp), 3, first=5), whole[5:]))
    by_row = {
        row: image
        for b in whole
        for row, image in zip(b["index"].tolist(), b["image"], strict=True)
    }
    for batch in batches(data(tiny_ffpp, batch_size=12, balance="half_batch"), 3):
        for row, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            assert image.equal(by_row[row])
    changed = [
        np.mean([not b["image"][n].equal(by_row[r]) for b in other for n, r in
                 enumerate(b["index"].tolist())])
        for other in (batches(module, 4), batches(data(tiny_ffpp, seed=1), 3))
    ]  # fmt: skip
    assert min(changed) > 0.8


def test_validation_and_test_are_as_they_were(tiny_ffpp):
    for part in ("val", "test"):
        ours, plain = (
            [b["image"].clone() for b in getattr(module, f"{part}_dataloader")()]
            for module in (data(tiny_ffpp), data(tiny_ffpp, degrade=None))
        )
        assert all(a.equal(b) for a, b in zip(ours, plain, strict=True))


def test_the_teacher_gets_the_same_or_the_clean_image(tmp_path):
    root = make_ffpp(tmp_path, ids=6, frames=2, size=32, qualities=("c23", "c40"))
    plain, one = batches(data(root, degrade=None)), batches(data(root))
    clean = batches(data(root, degrade_for="student"))
    for as_read, degraded, apart in zip(plain, one, clean, strict=True):
        assert "teacher_image" not in degraded
        assert apart["image"].equal(degraded["image"])
        assert apart["teacher_image"].equal(as_read["image"])
        assert not apart["image"].equal(apart["teacher_image"])
    two = {"quality": "c40", "teacher_quality": "c23", "degrade": ["resize"]}
    two["degrade_options"] = {"share": 1.0}
    plain = batches(data(root, **(two | {"degrade": None, "degrade_options": None})))
    both = batches(data(root, **two))
    apart = batches(data(root, **two, degrade_for="student"))
    chain = make_degradation(["resize"], {"share": 1.0})
    for as_read, same, student in zip(plain, both, apart, strict=True):
        assert student["teacher_image"].equal(as_read["teacher_image"])
        assert student["image"].equal(same["image"])
        for number, row in enumerate(as_read["index"].tolist()):
            expected = chain(as_read["teacher_image"][number], 0, 0, row)
            assert same["teacher_image"][number].equal(expected)


def test_frames_of_a_clip_are_degraded_alike(tiny_ffpp):
    module = data(tiny_ffpp, clip=2, degrade=["brightness"], degrade_options={"share": 1})
    plain = batches(data(tiny_ffpp, clip=2, degrade=None))[0]["image"]
    image = batches(module)[0]["image"]
    factors = (image.double().mean((2, 3, 4)) / plain.double().mean((2, 3, 4))).numpy()
    assert np.allclose(factors[:, 0], factors[:, 1], atol=0.02)
    assert factors.std() > 0.05


def test_an_unreadable_frame_is_replaced_before_it_is_degraded(tiny_ffpp, monkeypatch):
    module = data(tiny_ffpp, on_error="skip")
    table = module.table("train")
    made = FrameDataset(
        table, tiny_ffpp, 32, "skip", True, degrade=Degradation(share=1.0, strength=1.0)
    )
    read = FrameDataset._read
    bad = tiny_ffpp / table["path"][3]

    def broken(self, file):
        if file == bad:
            raise ValueError("broken")
        return read(self, file)

    whole = made[2]["image"]
    monkeypatch.setattr(FrameDataset, "_read", broken)
    batch = made[3]
    assert batch["skipped"].tolist() == [3]
    assert batch["index"].tolist() == [2]
    assert batch["image"].equal(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degrade": "haze"}, "no perturbation 'haze': choose from jpeg"),
        ({"degrade": []}, "no perturbation named"),
        ({"degrade_options": {"share": 0}}, "share is a probability above 0, not 0"),
        ({"degrade_options": {"strength": 6}}, "strength is between 1 and 5, not 6"),
        ({"degrade_options": {"most": 2}}, "no option 'most'; choose from share and strength"),
        ({"degrade_options": {"share": "much"}}, "share must be a number, not 'much'"),
        ({"degrade": None, "degrade_options": {"share": 1}}, "belong to --data.degrade"),
        ({"degrade": None, "degrade_for": "student"}, "degrade_for belongs to --data.degrade"),
    ],
)
def test_mistakes_are_one_line(tiny_ffpp, options, message):
    with pytest.raises(TokdError, match=message):
        data(tiny_ffpp, **options)
