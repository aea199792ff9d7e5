import pytest
import torch

from tokd_lightning.data.augment import Normalise, centre_crop, cut, draw_corners, seeded
from tokd_lightning.errors import TokdError


def test_wrong_normalisation_is_refused():
    with pytest.raises(TokdError, match="one number or three"):
        Normalise([0.5, 0.5], 0.5)
    with pytest.raises(TokdError, match="std must be positive"):
        Normalise(0.5, [0.5, 0.0, 0.5])


def random_crop(images, size, *key, **process):
    return cut(images, draw_corners(images, size, *key, **process), size)


def test_random_crops_are_windows_at_places_of_their_own():
    y, x = torch.meshgrid(torch.arange(12), torch.arange(10), indexing="ij")
    images = torch.stack([y, x]).expand(64, 2, 12, 10)
    corners = set()
    for image in random_crop(images, 8, 3, 5):
        top, left = image[:, 0, 0].tolist()
        assert torch.equal(image, images[0, :, top : top + 8, left : left + 8])
        corners.add((top, left))
    assert {top for top, _ in corners} == set(range(5))
    assert {left for _, left in corners} == set(range(3))


def test_two_processes_crop_like_one():
    images = torch.rand(8, 3, 20, 20)
    whole = random_crop(images, 12, 3, 5)
    parts = [random_crop(half, 12, 3, 5, rank=r, world=2) for r, half in enumerate(images.split(4))]
    assert torch.equal(torch.cat(parts), whole)


def test_a_crop_of_the_whole_image_changes_nothing():
    images = torch.rand(4, 3, 9, 9)
    assert torch.equal(random_crop(images, 9, 0), images)
    assert torch.equal(centre_crop(images, 9), images)


def test_a_seeded_block_repeats_itself_and_leaves_no_trace():
    state = torch.get_rng_state()
    drawn = []
    for key in ((1, 2), (1, 2), (2, 1), (1, 2, 0)):
        with seeded(torch.device("cpu"), *key):
            drawn.append(torch.rand(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not any(torch.equal(drawn[0], other) for other in drawn[2:])


@pytest.mark.gpu
def test_crops_and_seeds_do_the_same_on_a_gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    images = torch.rand(8, 3, 20, 20)
    assert torch.equal(random_crop(images.to(device), 12, 3).cpu(), random_crop(images, 12, 3))
    state = torch.cuda.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(device, 4):
            drawn.append(torch.rand(4, device=device))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.cuda.get_rng_state(), state)
