"""Batches of pairs: every fake with the real frame that it was made from."""

import numpy as np
import pytest
from trees import make_celebdf, make_ffpp

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest import build
from tokd_lightning.data.partners import find_partners, source_video
from tokd_lightning.data.sampling import TrainingBatches
from tokd_lightning.errors import TokdError


def ffpp(root, **options):
    defaults = {"quality": "c23", "size": 16, "batch_size": 8, "num_workers": 0}
    return FFPPDataModule(root, **(defaults | {"balance": "paired"} | options))


def row(video, label, frame, target, source="", path=None, method="Deepfakes", dataset="own"):
    method = method if label else "real"
    path = path or f"{dataset}/{method}/{video}/{frame}.png"
    return (path, dataset, method, video, target, source, "c23", frame, label, "train")


@pytest.mark.parametrize(
    ("video", "target", "source", "reals", "found"),
    [
        ("071_054", "071", "054", ["071"], "071"),
        ("id0_id1_0003", "id0", "id1", ["id0_0000", "id0_0003"], "id0_0003"),
        ("id0_id1_0003", "id0", "id1", ["id0_0000"], None),
        ("01_02__talking__AB", "01", "02", ["01__exit", "01__talking"], "01__talking"),
        ("id3_0007_test_id4", "id3", "", ["id3_0007", "id3_0008"], "id3_0007"),
        ("qwerty", "asdfgh", "", ["asdfgh"], "asdfgh"),  # DFDC's original
        ("clip7", "anna", "ben", ["clip1"], "clip1"),
        ("clip7", "anna", "ben", ["clip1", "clip2"], None),
        ("000_003", "000", "003", [], None),
    ],
)
def test_the_source_video_is_told_by_names(video, target, source, reals, found):
    assert source_video(video, target, source, reals) == found


def test_fakes_of_ffpp_have_their_target_at_their_frame(tiny_ffpp):
    table = ffpp(tiny_ffpp).table("train")
    partners = find_partners(table)
    assert (partners.nearest, partners.lonely) == (0, {})
    for fake, real in enumerate(partners.rows):
        if table["label"][fake] == 0:
            assert real == -1
            continue
        expected = table["path"][fake].replace("manipulated_sequences/", "original_sequences/")
        expected = expected.replace(table["method"][fake], "youtube")
        name = table["video"][fake]
        assert table["path"][real] == expected.replace(name, name[:3])


def test_fakes_of_celebdf_have_the_clip_of_their_number(tmp_path):
    root = make_celebdf(tmp_path, frames=2)
    module = CelebDFDataModule(root, size=8, batch_size=4, num_workers=0, balance="paired")
    table = module.table("train")
    partners = find_partners(table)
    for fake in np.flatnonzero(table["label"]):
        a, _, clip = table["video"][fake].split("_")
        real = partners.rows[fake]
        known = (table["label"] == 0) & (table["video"] == f"{a}_{clip}")
        assert (real >= 0) == bool(known.any())
        assert real < 0 or (table["video"][real], table["frame"][real]) == (
            f"{a}_{clip}",
            table["frame"][fake],
        )
    # Clip 0 of the first identity is tested: the fakes made from it, if any, are counted.
    assert sum(partners.lonely.values()) == int(
        (partners.rows < 0).sum() - (1 - table["label"]).sum()
    )


def test_nearest_frames_are_taken_and_counted_and_lonely_fakes_named():
    reals = [row("a", 0, frame, "a") for frame in (0, 10, 20)]
    fakes = [row("a_b", 1, frame, "a", "b") for frame in (0, 4, 6, 15, 99)]
    lost = [row("x", 1, 0, "", "", method="StyleGAN"), row("c_a", 1, 3, "c", "a")]
    partners = find_partners(build([*fakes, *reals, *lost]))
    frames = [0, 0, 10, 10, 20]
    assert partners.rows[:5].tolist() == [5 + frame // 10 for frame in frames]
    assert partners.nearest == 4
    assert partners.lonely == {"StyleGAN": 1, "Deepfakes": 1}
    assert partners.describe() == (
        "5 training fakes are paired with the real frame that they were made from (4 with the "
        "nearest one: their own is not among the frames); 2 have no such video and are not drawn: "
        "Deepfakes 1, StyleGAN 1"
    )


def test_every_pair_of_a_batch_is_a_fake_after_its_source(tiny_ffpp):
    module = ffpp(tiny_ffpp, seed=4)
    table, rows = module.table("train"), find_partners(module.table("train")).rows
    seen = []
    for batch in module.train_dataloader():
        assert batch["label"].tolist() == [0, 1] * 4
        real, fake = batch["index"].reshape(-1, 2).T.tolist()
        assert rows[fake].tolist() == real
        seen += fake
    assert sorted(seen) == np.flatnonzero(table["label"]).tolist()


def test_two_ranks_and_a_resumed_run_see_the_same_pairs(tiny_ffpp):
    table = ffpp(tiny_ffpp).table("train")
    labels, partners = table["label"].to_numpy(), find_partners(table).rows

    def batches(size=16, **options):
        made = TrainingBatches(labels, size, "paired", seed=3, partners=partners, **options)
        made.set_epoch(2)
        return made

    whole = list(batches())
    parts = [list(batches(rank=rank, world=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    assert all(labels[part].tolist() == [0, 1] * 4 for part in parts[1])
    resumed = batches()
    resumed.resume(2, 5)
    assert list(resumed) == whole[5:]
    with pytest.raises(TokdError, match="even number of samples, not 3, on each process"):
        batches(12, world=4)


def test_two_workers_load_what_the_main_process_does(tiny_ffpp):
    def images(workers):
        module = ffpp(tiny_ffpp, degrade="all", num_workers=workers, samples_per_epoch=16)
        loader = module.train_dataloader()
        loader.batch_sampler.set_epoch(1)
        return [batch["image"].clone() for batch in loader]

    for one, two in zip(images(0), images(2), strict=True):
        assert one.equal(two)


def test_fit_says_who_is_paired_and_refuses_when_nobody_is(tiny_ffpp, tmp_path, capsys):
    ffpp(tiny_ffpp).setup("fit")
    said = "96 training fakes are paired with the real frame that they were made from, none is left"
    assert said in capsys.readouterr().out
    ffpp(tiny_ffpp).setup("test")
    assert "paired with" not in capsys.readouterr().out
    with pytest.raises(TokdError, match="finds no fake with the real frame"):
        TrainingBatches(np.array([0, 1, 1]), 2, "paired", partners=np.array([-1, -1, -1]))


def test_paired_frames_at_two_qualities_stay_pairs(tmp_path):
    root = make_ffpp(tmp_path, ids=6, frames=2, size=8, qualities=("c23", "c40"))
    module = ffpp(root, quality="c40", teacher_quality="c23", size=8, batch_size=4)
    batch = next(iter(module.train_dataloader()))
    table = module.table("train")
    for real, fake in batch["index"].reshape(-1, 2).tolist():
        assert table["video"][fake].startswith(table["video"][real])
        assert table["frame"][fake] == table["frame"][real]
    assert batch["teacher_image"].shape == batch["image"].shape
