"""Which augmentations may be trained with: what Kornia's classes do to labels, size and range."""

import random

import kornia.augmentation as kornia
import numpy as np
import pytest
import torch
from torch import nn

from tokd_lightning.data.augment import Augmentation
from tokd_lightning.data.augment_check import check_augmentation
from tokd_lightning.errors import TokdError


class Mixing(kornia.RandomMixUpV2):
    """A subclass, as people write them."""


class Own(nn.Module):
    """A custom module made of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def cut_and_paste(images):
    images[:, :, :8, :8] = images.roll(1, 0)[:, :, :8, :8]
    return images


def check(*modules, size=32):
    check_augmentation(Augmentation(*modules), size)


@pytest.mark.parametrize(
    "module",
    [
        kornia.RandomMixUpV2(),
        kornia.RandomMixUpV2(p=0.01),
        Mixing(),
        kornia.RandomCutMixV2(p=0.5),
        kornia.RandomMosaic(output_size=(32, 32)),
        kornia.PatchMix(),
        kornia.RandomTransplantation(),
        kornia.AugmentationSequential(
            kornia.RandomHorizontalFlip(), kornia.RandomCutMixV2(), data_keys=["input"]
        ),
        kornia.ImageSequential(kornia.RandomMixUpV2(), kornia.RandomHue(), random_apply=1),
        kornia.PatchSequential(
            kornia.ImageSequential(kornia.RandomMixUpV2()),
            grid_size=(2, 2),
            patchwise_apply=False,
        ),
        Own(lambda images: images.lerp(images.flip(0), 0.2)),
        Own(lambda images: images[torch.randperm(len(images))]),
        Own(cut_and_paste),
        Own(lambda images: images - images.mean() + 0.5),
        Own(lambda images: images if random.random() < 0 else images.roll(1, 0)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_label_mixing_is_refused(module):
    with pytest.raises(TokdError, match="mixes the samples of a batch") as refused:
        check(kornia.RandomHorizontalFlip(), module)
    assert "\n" not in str(refused.value)


def test_label_mixing_of_torchvision_is_refused():
    from torchvision.transforms import v2

    with pytest.raises(TokdError, match="MixUp mixes the samples of a batch"):
        check(v2.MixUp(num_classes=2))


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([kornia.RandomCrop((16, 16))], "RandomCrop makes 3 x 16 x 16 of 3 x 32 x 32"),
        ([kornia.RandomResizedCrop((48, 48))], "RandomResizedCrop makes 3 x 48 x 48 of"),
        ([kornia.Resize((16, 32)), kornia.RandomHue()], "Resize makes 3 x 16 x 32 of"),
        ([kornia.CenterCrop(16, p=0.1)], "CenterCrop makes 3 x 16 x 16 of"),
        ([kornia.PadTo((40, 40))], "PadTo makes 3 x 40 x 40 of"),
        ([kornia.RandomHorizontalFlip3D()], "RandomHorizontalFlip3D makes 4 x 3 x 32 x 32 of"),
        ([Own(lambda images: images[:, :1])], "Own makes 1 x 32 x 32 of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_of_size_is_refused(modules, said):
    with pytest.raises(TokdError, match=said) as refused:
        check(*modules)
    assert "--data.size, and random crops with --data.crop" in str(refused.value)


def test_sizes_that_end_where_they_began_are_accepted():
    check(kornia.RandomCrop((16, 16)), kornia.Resize((32, 32)))
    check(kornia.RandomResizedCrop((32, 32)))


@pytest.mark.parametrize(
    "module",
    [
        kornia.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        kornia.ImageSequential(kornia.Normalize(0.5, 0.5)),
        Own(lambda images: images * 2 - 1),
        Own(lambda images: images * 255),
    ],
    ids=lambda module: type(module).__name__,
)
def test_normalisation_is_refused(module):
    with pytest.raises(TokdError, match=r"set --data\.mean and --data\.std instead"):
        check(module)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Own(lambda images: images / 0), "not finite"),
        (Own(lambda images: images / images.amax((1, 2, 3), keepdim=True)), "not finite"),
        (Own(lambda images: (images, None)), "Own returns a tuple, not a tensor"),
        (Own(lambda images: images.view(7)), "Own fails on a batch of images: shape"),
        (kornia.VideoSequential(kornia.RandomHue()), "VideoSequential fails on a batch"),
    ],
    ids=["infinite", "black", "tuple", "shape", "video"],
)
def test_what_cannot_be_applied_is_refused(module, said):
    with pytest.raises(TokdError, match=said) as refused:
        check(module)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "module",
    [
        kornia.ColorJiggle(0.5, 0.5, 0.5, 0.5),
        kornia.RandomAffine(30, (0.2, 0.2)),
        kornia.RandomBrightness((0.2, 2.0)),
        kornia.RandomErasing(),
        kornia.RandomGaussianBlur((3, 3), (0.1, 2.0)),
        kornia.RandomGaussianNoise(std=0.5),
        kornia.RandomGrayscale(),
        kornia.RandomInvert(),
        kornia.RandomJigsaw(),
        kornia.RandomJPEG(),
        kornia.RandomPerspective(),
        kornia.RandomPlasmaBrightness(),
        kornia.RandomRGBShift(),
        kornia.RandomSolarize(),
        kornia.AugmentationSequential(
            kornia.RandomHorizontalFlip(), kornia.RandomEqualize(), data_keys=["input"]
        ),
        kornia.PatchSequential(
            kornia.RandomHue(), kornia.RandomInvert(), kornia.RandomHue(), kornia.RandomHue(),
            grid_size=(2, 2),
        ),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_augmentations_of_single_images_are_accepted(module, recwarn):
    check(module)
    assert not [w for w in recwarn if "--data.augmentation" in str(w.message)]


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["random", "numpy"])
def test_random_numbers_outside_torch_are_announced(draw):
    with pytest.warns(UserWarning, match="draws random numbers that torch's seed does not fix"):
        check(Own(lambda images: images * (0.5 + 0.5 * draw())))


def test_a_check_leaves_modules_and_generators_as_they_were():
    module = kornia.RandomHorizontalFlip(p=0.5)
    states = torch.get_rng_state(), random.getstate()
    np.random.seed(3)  # noqa: NPY002  # the global generator is what must be left alone
    check(module)
    assert np.random.rand() == np.random.RandomState(3).rand()  # noqa: NPY002  # as above
    assert module.p == 0.5
    assert not module._params
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
