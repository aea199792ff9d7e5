import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tokd_lightning.data.augment import Normalise
from tokd_lightning.frequency import high_pass
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.modules.checkpoint import HEADER
from tokd_lightning.training.pictures import Column, choose, draw, look, write_pictures


@pytest.fixture
def scores():
    methods = ["real"] * 6 + ["Deepfakes"] * 6 + ["FaceSwap"] * 2
    return pd.DataFrame(
        {
            "method": methods,
            "video": [f"{n:03d}" for n in range(14)],
            "frame": 3,
            "label": [0] * 6 + [1] * 8,
            "p_fake": 0.75,
        },
        index=range(100, 114),
    )


def test_real_frames_and_every_forgery_take_turns(scores):
    drawn = choose(scores, 5)
    assert drawn["method"].tolist() == ["real", "Deepfakes", "FaceSwap", "real", "Deepfakes"]
    assert drawn.equals(scores.loc[drawn.index])
    assert drawn.index.is_unique


def test_the_choice_does_not_depend_on_what_the_network_says(scores):
    other = scores.assign(p_fake=np.linspace(0, 1, 14))
    assert choose(scores, 4).index.equals(choose(other, 4).index)
    assert len(choose(scores, 99)) == 14
    assert choose(scores, 0).empty


DATA = SimpleNamespace(normalise=Normalise(0.5, 0.25))


def titles(network, image, **more):
    model = SimpleNamespace(network=network, **more)
    return look(model, DATA, image)


def test_the_frame_is_shown_as_it_was_and_its_high_frequencies_around_grey():
    frame = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = DualBranchTeacher("test_resnet", pretrained=False, cutoff=0.5).train()
    x, fine, *rest = titles(network, (frame - 0.5) / 0.25)
    assert (x.title, fine.title) == ("x", "x^F, cutoff 0.5")
    np.testing.assert_allclose(x.values, frame.permute(0, 2, 3, 1), atol=1e-6)
    ours, theirs = fine.values - 0.5, high_pass(frame, 0.5).permute(0, 2, 3, 1).numpy()
    inside = abs(ours) < 0.499
    assert np.corrcoef(ours[inside], theirs[inside])[0, 1] == pytest.approx(1)
    assert [column.title for column in rest] == [
        f"RFAM {number}, {branch}" for number in (1, 2, 3) for branch in ("x", "x^F")
    ]
    assert network.training


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rfam": "none"}, ["energy, x", "energy, x^F"]),
        ({"branches": "frequency"}, ["energy, x^F"]),
    ],
)
def test_a_teacher_without_attention_shows_its_last_maps(options, expected):
    network = DualBranchTeacher("test_resnet", pretrained=False, **options)
    assert [c.title for c in titles(network, torch.zeros(1, 3, 64, 64))][2:] == expected


def test_a_student_shows_its_maps_and_needs_no_teacher():
    columns = titles(Student("test_resnet"), torch.zeros(1, 3, 64, 64), teacher_path="/nowhere")
    assert [column.title for column in columns] == [
        "x",
        "x^F, cutoff 0.33",
        *(f"energy, stride {stride}" for stride in (8, 16, 32)),
    ]
    assert columns[-1].values.shape == (1, 2, 2)


def test_the_sheet_has_a_row_per_frame_and_a_column_per_kind(scores):
    rows = scores.head(3)
    colours, values = np.zeros((3, 8, 8, 3)), np.arange(12.0).reshape(3, 2, 2)
    sizes = []
    for count in (1, 3):
        columns = [Column("x", colours[:count]), Column("energy, x^F", values[:count])]
        with Image.open(io.BytesIO(draw(columns, rows.head(count), "run"))) as page:
            sizes.append(page.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] == pytest.approx(2 * 1.48 * 130, abs=1)


def test_a_test_without_pictures_draws_none(tmp_path):
    model = SimpleNamespace(scores=pd.DataFrame({"method": ["real"], "label": [0]}))
    write_pictures(model, None, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_student_is_shown_the_high_frequencies_that_its_teacher_saw(tmp_path):
    network = {"backbone": "test_resnet", "cutoff": 0.1}
    torch.save({HEADER: {"kind": "teacher", "network": network}}, tmp_path / "best.ckpt")
    path = str(tmp_path / "best.ckpt")
    _, fine, *_ = titles(Student("test_resnet"), torch.zeros(1, 3, 64, 64), teacher_path=path)
    assert fine.title == "x^F, cutoff 0.1"
