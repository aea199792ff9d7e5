import sys

import pytest
import torch
from pages import ROOT, files

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher, Student

NETWORK = files((ROOT / "docs/extend.md").read_text(encoding="utf-8"))["mynets.py"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    return tmp_path


def test_a_network_named_by_its_module_is_cut_like_timm_s(here):
    (here / "netsofmine.py").write_text(NETWORK)
    student = Student("netsofmine.four_stages")
    assert student.shapes(64) == {8: (32, 8, 8), 16: (48, 4, 4), 32: (64, 2, 2)}
    assert student.spec["backbone"] == "netsofmine.four_stages"
    x = torch.rand(2, 3, 64, 64)
    expected = student(x).logits
    again = Student(**student.spec)
    again.load_state_dict(student.state_dict())
    assert torch.equal(again(x).logits, expected)
    teacher = DualBranchTeacher("netsofmine.four_stages", pretrained=False)
    assert teacher(x).logits.shape == (2, 2)


def test_a_network_that_does_not_give_its_own_maps_is_refused(here):
    wrong = NETWORK.replace("maps.append(x)", "maps.append(x * 1.1)")
    (here / "wrongnets.py").write_text(wrong.replace("def four_stages", "def wrong_stages"))
    with pytest.raises(TokdError, match="cannot be cut at strides 8, 16 and 32"):
        Student("wrongnets.wrong_stages")


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (None, "nosuchmodule.net", "no network nosuchmodule.net: nosuchmodule cannot be imported"),
        ("x = 1 / 0", "brokennets.net", "brokennets cannot be imported"),
        (
            "def net(): ...",
            "plainnets.net",
            "put @timm.models.register_model above net in plainnets",
        ),
        (None, "resnet50.no_such_tag", "no network is named resnet50.no_such_tag"),
        (None, "resnet5", "no network is named resnet5: resnet50"),
    ],
)
def test_a_network_that_cannot_be_had_is_one_line(here, text, name, says):
    if text is not None:
        (here / f"{name.partition('.')[0]}.py").write_text(text)
    with pytest.raises(TokdError) as refused:
        Student(name)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_of_imagenet_are_refused_where_there_are_none(here):
    (here / "weightless.py").write_text(NETWORK.replace("def four_stages", "def five_stages"))
    with pytest.raises(TokdError, match="five_stages has no ImageNet weights"):
        Student("weightless.five_stages", pretrained=True)
