"""Statistics of all processes: what takes BatchNorm's place, and that it goes again."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import NETWORK, Images, distill_module, quiet, same, sgd, snapshot, teacher_module
from torch import nn

from tokd_lightning.distillation import FitNet
from tokd_lightning.models import Student
from tokd_lightning.modules.batchnorm import SyncedBatchNorm
from tokd_lightning.modules.checkpoint import load_teacher, read_checkpoint, under

ACTIVE = "test_efficientnet"  # timm has activations in its norms
CASES = {
    "teacher with activations": lambda _: teacher_module(optimizer=sgd, backbone=ACTIVE),
    # The random projectors' statistics are set from the first batch.
    "tokd": lambda path: distill_module(path, {"teacher_projectors": "frozen"}, optimizer=sgd),
    "fitnet": lambda path: distill_module(path, partial(FitNet), optimizer=sgd, student=ACTIVE),
}


class Converted(Callback):
    """Does to a module what Lightning's strategy does; in one process all is as without."""

    def __init__(self, path):
        self.path, self.sync = path, SyncedBatchNorm()

    def on_fit_start(self, trainer, module):
        assert self.sync.apply(module) is module

    def on_train_end(self, trainer, module):
        trainer.save_checkpoint(self.path)
        self.norms = norms(module)
        assert self.sync.revert(module) is module


def norms(module):
    kinds = nn.modules.batchnorm._BatchNorm
    return {name: type(m) for name, m in module.named_modules() if isinstance(m, kinds)}


def fitted(module, callbacks=()):
    quiet(callbacks=list(callbacks)).fit(module, datamodule=Images(2))
    return module


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", CASES)
def test_what_takes_batchnorm_s_place_computes_the_same_and_goes_again(teacher, tmp_path, name):
    plain = fitted(CASES[name](teacher))
    converted = Converted(tmp_path / "converted.ckpt")
    module = fitted(CASES[name](teacher), [converted])
    assert converted.norms
    assert converted.norms.keys() == norms(plain).keys()
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in converted.norms.values())
    assert same(snapshot(module), snapshot(plain))
    assert norms(module) == norms(plain)
    assert {n: m.training for n, m in module.named_modules()} == {
        n: m.training for n, m in plain.named_modules()
    }
    module.eval()
    plain.eval()
    image = Images().samples("val")[0]["image"][None]
    assert torch.equal(module(image), plain(image))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["teacher with activations", "fitnet"])
def test_its_checkpoints_load_into_the_plain_network(teacher, tmp_path, name):
    converted = Converted(tmp_path / "converted.ckpt")
    module = fitted(CASES[name](teacher), [converted]).eval()
    if name == "fitnet":
        checkpoint = read_checkpoint(converted.path, "student")
        network = Student(**checkpoint["tokd"]["network"])
        network.load_state_dict(under(checkpoint["state_dict"], "student."))
    else:
        network = load_teacher(converted.path).network
    image = Images().samples("val")[0]["image"][None]
    torch.testing.assert_close(network.eval()(image).logits, module(image))


def test_there_are_norms_with_activations_among_these():
    kinds = {kind.__name__ for kind in norms(Student(ACTIVE, pretrained=False)).values()}
    assert "BatchNormAct2d" in kinds
    assert {k.__name__ for k in norms(Student(NETWORK, pretrained=False)).values()} == {
        "BatchNorm2d"
    }
