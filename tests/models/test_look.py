import pytest
import torch

from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.look import attention_maps, energy


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rfam", ["spatial", "elementwise"])
def test_the_attention_is_what_the_branches_were_multiplied_with(image, rfam):
    teacher = DualBranchTeacher("test_resnet", pretrained=False, rfam=rfam).eval()
    weighed = []
    last = teacher.rfams[max(teacher.rfams)]
    last.register_forward_hook(lambda _, *maps: weighed.extend(zip(*maps, strict=True)))
    output, attention = attention_maps(teacher, image)
    assert len(attention) == len(teacher.rfams)
    for ours, (before, after) in zip(attention[-1], weighed, strict=True):
        ratio = (after / before).nanmean(dim=1) if rfam == "spatial" else None
        if ratio is not None:
            torch.testing.assert_close(ours, ratio, rtol=1e-4, atol=1e-5)
        assert ours.shape == (2, *before.shape[2:])
        assert bool(((ours > 0) & (ours < 1)).all())
    torch.testing.assert_close(output.logits, teacher(image).logits)


def test_nothing_stays_behind(image):
    teacher = DualBranchTeacher("test_resnet", pretrained=False).eval()
    before = set(teacher.state_dict())
    attention_maps(teacher, image)
    assert set(teacher.state_dict()) == before
    assert not any(module._forward_hooks for module in teacher.modules())


@pytest.mark.parametrize("options", [{"rfam": "none"}, {"branches": "rgb"}])
def test_a_teacher_without_attention_has_no_maps(image, options):
    teacher = DualBranchTeacher("test_resnet", pretrained=False, **options).eval()
    assert attention_maps(teacher, image)[1] == []


def test_the_energy_is_the_mean_square_over_channels():
    maps = torch.tensor([[[[1.0, 0.0]], [[3.0, 2.0]]]])
    torch.testing.assert_close(energy(maps), torch.tensor([[[5.0, 2.0]]]))
