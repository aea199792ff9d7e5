"""Bands taken out of images, and what a network that is known says of them."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch_dct
from torch import nn

from tokd_lightning.data.augment import Normalise
from tokd_lightning.errors import TokdError
from tokd_lightning.explain.bands import band_table
from tokd_lightning.explain.options import band_edges
from tokd_lightning.explain.survey import filtered, filters, survey
from tokd_lightning.models import DualBranchTeacher, StudentOutput
from tokd_lightning.models.look import attention_maps

SIZE, EDGES = 24, (0, 0.2, 0.5, 1.1, 2)
METHODS = ["real"] * 4 + ["Deepfakes"] * 3 + ["FaceSwap"] * 2


class Data:
    """A split in memory, in batches of two."""

    def __init__(self, images, methods=METHODS):
        self.images, self.normalise = images, Normalise([0.3, 0.4, 0.5], [0.2, 0.5, 1.0])
        self.frame = pd.DataFrame({"method": methods, "video": "v", "path": range(len(methods))})
        self.frame["label"] = (self.frame["method"] != "real").astype(int)

    def table(self, split):
        return self.frame

    def test_dataloader(self):
        for rows in torch.arange(len(self.frame)).split(2):
            label = torch.tensor(self.frame["label"].to_numpy()[rows.numpy()])
            yield {"image": self.images[rows], "label": label, "index": rows}

    def on_after_batch_transfer(self, batch, _):
        return {**batch, "image": self.normalise(batch["image"])}


def noise(count=9, size=SIZE):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


class Reader(nn.Module):
    """Calls fake what has much of the one wave u, v."""

    def __init__(self, u, v):
        super().__init__()
        spike = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        spike[u, v] = 1
        self.wave = nn.Parameter(torch_dct.idct_2d(spike, norm="ortho").float())

    def forward(self, x):
        amount = (x.mean(1) * self.wave).sum((1, 2))
        return StudentOutput(torch.stack([-amount, amount], 1), {})


def test_every_filter_is_that_of_the_full_transform():
    x = noise().double()
    frequency = torch.arange(SIZE)[:, None] / SIZE + torch.arange(SIZE) / SIZE
    names = filters(EDGES)
    pairs = list(filtered(x, EDGES))
    assert len(pairs) == len(names) == 3 * (len(EDGES) - 1)
    for name, (image, band) in zip(names, pairs, strict=True):
        inside = (frequency >= name.low) & (frequency < name.high)
        kept = ~inside if name.kind == "remove" else inside
        kept[0, 0] = True
        expected = torch_dct.idct_2d(torch_dct.dct_2d(x, norm="ortho") * kept, norm="ortho")
        torch.testing.assert_close(image, expected, atol=1e-10, rtol=0)
        assert (band is not None) == (name.kind == "remove")
        torch.testing.assert_close(image.mean((2, 3)), x.mean((2, 3)), atol=1e-10, rtol=0)


def test_normalised_images_are_filtered_as_those_between_0_and_1():
    x = noise()
    normalise = Data(x).normalise
    for (ours, _), (plain, _) in zip(
        filtered(normalise(x), EDGES), filtered(x, EDGES), strict=True
    ):
        torch.testing.assert_close(ours, normalise(plain), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("u", "v", "band"), [(2, 1, 0), (4, 6, 1), (12, 14, 2), (23, 20, 3)])
def test_a_network_that_reads_one_frequency_falls_in_its_band_alone(u, v, band):
    network, data = Reader(u, v), Data(noise())
    fake = torch.tensor(data.frame["label"].to_numpy()) * 2.0 - 1
    data.images = data.images * 0.01 + 0.5 + fake[:, None, None, None] * network.wave.detach()
    found = survey(network, data, "test", EDGES)
    table = band_table(found)
    assert (table["auc"].iloc[0], table["balanced_acc"].iloc[0]) == (1, 1)
    removed = table[table["filter"] == "remove"].reset_index(drop=True)
    for number, row in removed.iterrows():
        if number == band:
            assert abs(row["p_fake_fake"] - row["p_fake_real"]) < 1e-4
        else:
            assert row["auc_drop"] == row["balanced_acc_drop"] == 0
            assert row["p_fake_fake"] == pytest.approx(table["p_fake_fake"].iloc[0], abs=1e-5)
    for row in table[table["filter"].isin(["low-pass", "high-pass"])].itertuples():
        holds = row.low <= u / SIZE + v / SIZE < row.high
        assert (row.p_fake_fake - row.p_fake_real > 0.5) == holds


def test_shares_of_the_energy_are_those_of_images_between_0_and_1():
    data = Data(noise())
    table = band_table(survey(Reader(1, 1), data, "test", EDGES))
    removed = table[table["filter"] == "remove"]
    assert removed["energy_real"].sum() == pytest.approx(1)
    real = data.images[:4].double()
    coefficients = torch_dct.dct_2d(real, norm="ortho").square().sum((0, 1))
    coefficients[0, 0] = 0
    frequency = torch.arange(SIZE)[:, None] / SIZE + torch.arange(SIZE) / SIZE
    for row in removed.itertuples():
        inside = (frequency >= row.low) & (frequency < row.high)
        expected = float(coefficients[inside].sum() / coefficients.sum())
        assert row.energy_real == pytest.approx(expected, rel=1e-4)
    assert table[table["filter"] != "remove"]["energy_real"].isna().all()


def test_attention_is_averaged_over_the_frames_of_each_method():
    teacher = DualBranchTeacher("test_resnet", pretrained=False).eval()
    data = Data(noise(size=64))
    found = survey(teacher, data, "test", (0, 1, 2))
    assert found.methods == {"real": 4, "Deepfakes": 3, "FaceSwap": 2}
    _, pairs = attention_maps(teacher, data.normalise(data.images))
    for ours, maps in zip(found.attention.maps, [m for pair in pairs for m in pair], strict=True):
        means = torch.stack([maps[:4].mean(0), maps[4:7].mean(0), maps[7:].mean(0)])
        np.testing.assert_allclose(ours, means, atol=1e-5)
    expected = data.images[4:7].mean(0).permute(1, 2, 0)
    np.testing.assert_allclose(found.attention.images[1], expected, atol=1e-5)
    with torch.no_grad():
        p_fake = teacher(data.normalise(data.images)).logits.softmax(1)[:, 1]
    np.testing.assert_allclose(found.scores["p_fake"], p_fake, atol=1e-5)


@pytest.mark.parametrize("options", [{"rfam": "none"}, {"branches": "frequency"}])
def test_a_teacher_without_attention_has_none(options):
    teacher = DualBranchTeacher("test_resnet", pretrained=False, **options).eval()
    assert survey(teacher, Data(noise(size=64)), "test", (0, 2)).attention is None


def test_a_diverged_network_is_named():
    network = Reader(1, 1)
    network.wave.data.fill_(float("nan"))
    with pytest.raises(TokdError, match="diverged"):
        survey(network, Data(noise()), "test", EDGES)


def test_of_one_kind_of_frames_there_is_no_auc():
    data = Data(noise(4), ["real"] * 4)
    table = band_table(survey(Reader(1, 1), data, "test", EDGES))
    assert table["auc"].isna().all()
    assert table["p_fake_real"].notna().all()


@pytest.mark.parametrize("widths", ["log", "equal"])
def test_bands_cover_all_frequencies(widths):
    edges = band_edges(10, widths, 96)
    assert (len(edges), edges[0], edges[-1]) == (11, 0, 2)
    steps = np.diff(edges) if widths == "equal" else np.array(edges[2:]) / edges[1:-1]
    np.testing.assert_allclose(steps, steps[0])
    assert widths == "equal" or edges[1] == pytest.approx(1 / 32)


def test_a_band_without_a_frequency_is_refused():
    with pytest.raises(TokdError, match=r"images of 8 px have no frequency between 0 and 0\.03"):
        band_edges(10, "log", 8)
