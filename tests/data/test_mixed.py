"""Several data sets in one training."""

import shutil
from collections import Counter

import numpy as np
import pytest
from trees import make_celebdf, make_ffpp

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.mixed import MixedDataModule
from tokd_lightning.data.partners import find_partners
from tokd_lightning.data.sampling import TrainingBatches
from tokd_lightning.errors import TokdError

BOTH = [{"data": "ffpp-c23:ff", "weight": 2}, {"data": "celebdf:sub/celeb", "weight": 1}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("several")
    make_ffpp(place / "ff", ids=10, frames=2, size=16)
    make_celebdf(place / "sub/celeb", frames=2, size=16)
    return place


def mixed(root, sets=BOTH, **options):
    defaults = {"size": 16, "batch_size": 12, "num_workers": 0}
    return MixedDataModule(root, sets, **(defaults | options))


def test_rows_are_those_of_each_data_set_alone(root):
    module = mixed(root)
    ff = FFPPDataModule(root / "ff", quality="c23", size=16)
    celeb = CelebDFDataModule(root / "sub/celeb", size=16)
    for split in ("train", "val", "test"):
        table = module.table(split)
        for name, folder, alone in (("ffpp", "ff", ff), ("celebdf", "sub/celeb", celeb)):
            ours = table[table["dataset"] == name].reset_index(drop=True)
            theirs = alone.table(split)
            assert (ours["path"] == folder + "/" + theirs["path"]).all()
            for column in ("method", "video", "target", "source", "quality", "frame", "label"):
                assert ours[column].tolist() == theirs[column].tolist()
    assert module.partial == {}


@pytest.mark.parametrize("balance", ["none", "half_batch", "paired"])
def test_every_batch_has_each_data_set_by_its_share(root, balance):
    module = mixed(root, balance=balance, samples_per_epoch=600)
    table, shares = module.table("train"), []
    partners = find_partners(table).rows
    for batch in module.train_dataloader():
        rows = batch["index"].numpy()
        counts = Counter(table["set"][rows])
        shares.append(counts["ffpp"])
        assert counts["ffpp"] == 8
        if balance != "none":
            label = table["label"].to_numpy()[rows].reshape(-1, 2)
            assert (label == [0, 1]).all()
            same = table["set"].to_numpy()[rows].reshape(-1, 2)
            assert (same[:, 0] == same[:, 1]).all()
        if balance == "paired":
            assert partners[rows[1::2]].tolist() == rows[::2].tolist()
    assert len(shares) == 50


def test_a_share_that_is_no_whole_number_is_exact_on_average():
    labels = np.array([0, 1] * 50)
    sets = np.arange(100) // 50
    batches = TrainingBatches(labels, 10, samples_per_epoch=20_000, sets=sets, weights=[1, 2])
    counts = np.array([(sets[batch] == 0).sum() for batch in batches])
    assert set(counts) == {3, 4}
    assert abs(counts.mean() - 10 / 3) < 0.03
    drawn = Counter(row for batch in batches for row in batch if sets[row] == 0)
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_ranks_seeds_and_resumption_compose_the_same_batches():
    labels, sets = np.array([0, 1, 1] * 40), np.arange(120) % 2

    def batches(seed=0, **options):
        its = {"sets": sets, "weights": [3.0, 1.0], "samples_per_epoch": 240}
        made = TrainingBatches(labels, 16, "half_batch", seed=seed, **its, **options)
        made.set_epoch(1)
        return made

    whole = list(batches())
    parts = [list(batches(rank=rank, world=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    again = batches()
    again.resume(1, 7)
    assert list(again) == whole[7:]
    assert list(batches(seed=1)) != whole


def test_without_weights_every_frame_counts_once(root):
    module = mixed(root, [{"data": one["data"]} for one in BOTH], batch_size=4)
    rows = [row for batch in module.train_dataloader() for row in batch["index"].tolist()]
    assert len(rows) == len(set(rows)) > len(module.table("train")) - 4
    assert module.composition() == {}


def test_splits_and_options_are_by_data_set(root):
    sets = [
        {"data": "ffpp-c23:ff", "take": ["train", "val"], "options": {"methods": ["FaceSwap"]}},
        {"data": "celebdf:sub/celeb", "take": "test"},
    ]
    module = mixed(root, sets)
    assert set(module.table("train")["method"]) == {"real", "FaceSwap"}
    assert set(module.table("val")["dataset"]) == {"ffpp"}
    assert set(module.table("test")["dataset"]) == {"celebdf"}
    assert mixed(root, sets, leave_out=None).data_hash() == module.data_hash()
    assert mixed(root).data_hash() != module.data_hash()


def test_the_table_counts_by_data_set_and_the_shares_are_said(root, capsys):
    mixed(root).setup("fit")
    said = capsys.readouterr().out
    assert "train ffpp" in said
    assert "test celebdf" in said
    assert "each batch of 12 has 8 of ffpp, 4 of celebdf, on average" in said


def test_a_set_of_weight_0_is_not_listed_for_training_and_said(root, capsys):
    module = mixed(root, [BOTH[0], BOTH[1] | {"weight": 0}])
    module.setup("fit")
    assert set(module.table("train")["dataset"]) == {"ffpp"}
    assert set(module.table("val")["dataset"]) == {"ffpp", "celebdf"}
    said = capsys.readouterr().out
    assert "train celebdf" not in said
    assert "each batch of 12 has 12 of ffpp, on average" in said
    assert "celebdf has weight 0 and is not trained on" in said


def test_the_hash_covers_the_contents_of_all(root, tmp_path):
    whole = mixed(root).data_hash()
    copied = tmp_path / "copy"
    shutil.copytree(root, copied)
    assert mixed(copied).data_hash() == whole
    (tmp_path / "link").mkdir()
    (tmp_path / "link/ff").symlink_to(root / "ff")
    (tmp_path / "link/sub").symlink_to(root / "sub")
    assert mixed(tmp_path / "link").data_hash() == whole
    file = copied / mixed(copied).table("test")["path"].iloc[-1]
    file.write_bytes(next((copied / "ff").rglob("*.png")).read_bytes())
    assert mixed(copied).data_hash() != whole


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "names no data set"),
        ([{"weight": 1}], r"number 1: write \{data: KIND-QUALITY:PATH\}"),
        ([{"data": "ffpp-c23:ff", "share": 1}], "no key 'share'; choose from data, weight"),
        ([{"data": "photos:ff"}], "no data set of the kind 'photos'"),
        ([{"data": "ffpp:nowhere"}], "there is no .*nowhere"),
        ([{"data": "ffpp:.."}], "is not below"),
        ([{"data": "ffpp-c23:ff"}, {"data": "ffpp-c40:ff"}], "two are named ffpp"),
        ([{"data": "ffpp-c23:ff", "weight": -1}], "weight must be a number from 0 on"),
        ([{"data": "ffpp-c23:ff", "weight": float("inf")}], "weight must be a number from 0 on"),
        ([{"data": "ffpp-c23:ff", "take": [{}]}], "take is a list of train, val, test"),
        ([{"data": "ffpp-c23:ff", "take": ["test"]}], "none is trained on"),
        (
            [{"data": "celebdf:sub/celeb", "options": {"val_fraction": "abc"}}],
            "option val_fraction must be float, not 'abc'",
        ),
        ([{"data": "ffpp-c23:ff", "weight": 1}, {"data": "celebdf:sub/celeb"}], "or none"),
        ([BOTH[0], BOTH[1] | {"weight": 0, "take": "train"}], "for training alone, and its weight"),
        ([{"data": "ffpp-c23:ff", "take": ["dev"]}], "take is a list of train, val, test"),
        ([{"data": "ffpp-c23:ff", "options": {"val_fraction": 1}}], "no option 'val_fraction'"),
    ],
)
def test_mistakes_are_one_line(root, sets, message):
    with pytest.raises(TokdError, match=message):
        mixed(root, sets)


def test_forging_and_equal_frames_are_refused(root):
    with pytest.raises(TokdError, match="train on one, not several"):
        mixed(root, forge="sbi")
    twice = [{"data": "a=celebdf:sub/celeb"}, {"data": "b=celebdf:sub/celeb"}]
    with pytest.raises(TokdError, match="frames are listed twice"):
        mixed(root, twice).table("train")


def test_loss_weights_balance_the_classes_of_batches_not_those_of_the_lists(root):
    sets = [BOTH[0] | {"weight": 1}, BOTH[1] | {"weight": 9}]
    module = mixed(root, sets, balance="loss_weight", batch_size=10, samples_per_epoch=20_000)
    table, weights = module.table("train"), module.class_weights
    drawn = np.concatenate([*module.train_dataloader().batch_sampler])
    label = table["label"].to_numpy()
    number = np.bincount(label[drawn])
    assert weights.numpy() == pytest.approx(len(drawn) / (2 * number), rel=0.02)
    assert abs(label[drawn].mean() - label.mean()) > 0.02  # the lists' classes are others
