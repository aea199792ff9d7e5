"""Feature projectors of student and teacher, Sec. 4.1."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from tokd_lightning.distillation.distance import batch_variance, normalised
from tokd_lightning.distillation.projectors import (
    AuxiliaryClassifier,
    TeacherProjectors,
    projector,
    student_projector,
)


def pattern(stack: nn.Sequential) -> str:
    """One letter per layer: c(onvolution), b(atch norm), r(elu)."""
    letters = {nn.Conv2d: "c", nn.BatchNorm2d: "b", nn.ReLU: "r"}
    return "".join(letters[type(layer)] for layer in stack)


def test_projectors_have_the_layers_of_the_paper():
    assert pattern(student_projector("rgb", 8, 4, 1, "each")) == "cbrcbr"
    assert pattern(student_projector("frequency", 8, 4, 1, "each")) == "cbrcbrcbr"
    assert pattern(student_projector("rgb", 8, 4, 1, "last")) == "ccbr"
    assert pattern(student_projector("frequency", 8, 4, 1, "last")) == "cccbr"
    for norm, rgb in (("each", "cbrcbrcbr"), ("last", "cccbr")):
        teacher = TeacherProjectors(8, 4, 1, norm)
        assert pattern(teacher.rgb) == rgb
        assert pattern(teacher.frequency) == "ccbrccbrc"


@pytest.mark.parametrize("kernel", [1, 3])
def test_projectors_keep_the_grid(kernel: int):
    rgb, frequency = TeacherProjectors(8, 5, kernel)(
        torch.randn(2, 8, 3, 4), torch.ones(2, 8, 3, 4)
    )
    assert rgb.shape == frequency.shape == (2, 5, 3, 4)
    with pytest.raises(ValueError, match="odd"):
        projector(8, 4, 2, 2, ())


def test_spec_rebuilds_the_projectors():
    first = TeacherProjectors(8, 4, 3, "last")
    again = TeacherProjectors(**first.spec)
    assert again.misfits(first.state_dict()) == []
    assert "rgb.0.weight" in TeacherProjectors(9, 4, 3, "last").misfits(first.state_dict())
    assert again.misfits({})


def test_auxiliary_classifier_trains_both_projectors():
    projectors, classifier = TeacherProjectors(8, 4), AuxiliaryClassifier(4)
    logits = classifier(*projectors(torch.randn(6, 8, 2, 2), torch.randn(6, 8, 2, 2)))
    assert logits.shape == (6, 2)
    nn.functional.cross_entropy(logits, torch.arange(6) % 2).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in classifier.parameters())
    assert projectors.rgb[0].weight.grad.abs().sum() > 0
    assert projectors.frequency[0].weight.grad.abs().sum() > 0


def features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rectified maps that share most of what they show, as those of a network do."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(2, 1, 16, 4, 4, generator=generator)
    rgb, frequency = (common + 0.3 * torch.randn(2, 8, 16, 4, 4, generator=generator)).relu()
    return rgb, frequency


def test_calibrated_statistics_are_those_of_the_batch():
    torch.manual_seed(0)
    projectors = TeacherProjectors(16, 8)
    reference = TeacherProjectors(16, 8).train()
    reference.load_state_dict(projectors.state_dict())
    rgb, frequency = features()
    expected = reference(rgb, frequency)
    projectors.eval().calibrate(rgb, frequency)
    for found, wanted in zip(projectors(rgb, frequency), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_calibration_keeps_what_tells_images_apart():
    torch.manual_seed(0)
    projectors = TeacherProjectors(16, 32).eval()
    rgb, frequency = features()

    def variances() -> list[float]:
        return [float(batch_variance(normalised(x))) for x in projectors(rgb, frequency)]

    before = variances()
    projectors.calibrate(rgb, frequency)
    for old, new in zip(before, variances(), strict=True):
        assert new > 1.5 * old


def calibrated(rgb: torch.Tensor, frequency: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    projectors = TeacherProjectors(16, 4).eval()
    projectors.calibrate(rgb, frequency)
    return projectors.state_dict()


def process(rank: int, folder: Path) -> None:
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    half = slice(4 * rank, 4 * rank + 4)
    torch.save(calibrated(*(x[half] for x in features())), folder / f"{rank}.pt")
    distributed.barrier()


@pytest.mark.slow
def test_two_processes_calibrate_as_one(tmp_path: Path):
    multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in calibrated(*features()).items():
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], value)
