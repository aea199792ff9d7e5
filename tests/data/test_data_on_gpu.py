"""The data module with a CUDA device: the CPU's images, pinned, without waiting."""

import kornia.augmentation as K
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from test_datamodule import data, process

pytestmark = pytest.mark.gpu


def finished(module, device, count=2):
    """The first training batches as the network would see them, on a device."""
    module.trainer = process()
    return [
        module.on_after_batch_transfer(move_data_to_device(batch, torch.device(device)), 0)
        for batch, _ in zip(module.train_dataloader(), range(count), strict=False)
    ]


@pytest.mark.parametrize("crop", [None, 40])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_on_a_gpu_are_those_of_the_cpu(tiny_ffpp, crop, workers):
    options = {"crop": crop, "num_workers": workers, "seed": 3}
    jiggled = [K.RandomHorizontalFlip(p=0.5), K.ColorJiggle(0.2, 0.2, p=0.7)]
    for augmentation in (None, jiggled):
        modules = [data(tiny_ffpp, augmentation=augmentation, **options) for _ in range(2)]
        pairs = zip(finished(modules[0], "cuda"), finished(modules[1], "cpu"), strict=True)
        for found, expected in pairs:
            assert found["image"].is_cuda
            assert found["image"].dtype == torch.float32
            torch.testing.assert_close(
                found["image"].cpu(), expected["image"], rtol=1e-4, atol=1e-4
            )
            assert found["label"].cpu().equal(expected["label"])


def test_batches_are_pinned_and_finished_without_waiting(tiny_ffpp):
    module = data(tiny_ffpp, crop=40, num_workers=2)
    finished(module, "cuda", 1)  # what is made once is made now
    batches = list(module.train_dataloader())
    assert all(batch["image"].is_pinned() for batch in batches)
    device = torch.device("cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            module.on_after_batch_transfer(move_data_to_device(batch, device), 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
