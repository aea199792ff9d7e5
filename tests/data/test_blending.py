"""Forged samples against the published definitions, written out again, and by invariants."""

import random
from functools import cache

import cv2
import numpy as np
import pytest

from tokd_lightning.data.blending.blended import BI, bend, similarity
from tokd_lightning.data.blending.colour import (
    blend,
    coarsen,
    colour_map,
    match_colours,
    recolour,
    sharpen,
)
from tokd_lightning.data.blending.forger import Face
from tokd_lightning.data.blending.masks import (
    KINDS,
    erode_or_dilate,
    feather,
    hull,
    raise_brows,
    soften,
    with_forehead,
    xray,
)
from tokd_lightning.data.blending.points import mirrored
from tokd_lightning.data.blending.selfblended import SBI
from tokd_lightning.demo.cast import ProceduralCast

SIZE = 96


@cache
def face(number: int = 0, size: int = SIZE) -> Face:
    """A drawn face with its points."""
    portrait = ProceduralCast(0, size).portrait(number)
    return Face(portrait.image, portrait.points)


def polygon(points, size):
    """A filled convex hull by half-planes, independent of OpenCV's drawing."""
    corners = cv2.convexHull(points.astype(np.int32))[:, 0].astype(np.int64)
    y, x = np.mgrid[:size, :size]
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        sides.append((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
    low, high = corners.min(0), corners.max(0)  # a line has two half-planes and no end
    box = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
    return box & (np.all(np.array(sides) >= 0, 0) | np.all(np.array(sides) <= 0, 0))


def union(groups, points, size):
    return np.any([polygon(points[list(g)], size) for g in groups], 0)


def test_hulls_are_the_unions_of_the_published_parts():
    points = face(1).points.astype(np.int32)
    chin = 8
    parts = [[*range(17), *range(48, 68)], [27, 28, 29, 30, 33], [*range(17, 27), 0, 27, 16, 33]]
    sectors = [
        [*range(9), 17], [*range(8, 17), 26], [17, 18, 19, chin], [24, 25, 26, chin],
        [*range(19, 25), chin], [*range(17, 22), 27, *range(31, 36), chin],
        [*range(22, 27), 27, *range(31, 36), chin], [*range(27, 36)],
    ]  # fmt: skip
    raised = points.copy()
    middle_l, middle_r = (points[36] + points[0]) // 2, (points[16] + points[45]) // 2
    quarter_l, quarter_r = (points[36] + middle_l) // 2, (points[45] + middle_r) // 2
    bottom_l = np.array([quarter_l, points[36], points[37], points[38], points[39]])
    bottom_r = np.array([points[42], points[43], points[44], points[45], quarter_r])
    raised[17:22] = points[17:22] + (points[17:22] - bottom_l) // 2
    raised[22:27] = points[22:27] + (points[22:27] - bottom_r) // 2
    assert np.array_equal(raise_brows(points), raised)
    wanted = {
        "all": polygon(points, SIZE),
        "parts": union(parts, points, SIZE),
        "sectors": union(sectors, points, SIZE),
        "raised": union(sectors, raised, SIZE),
    }
    areas = {}
    for kind in KINDS:
        mask = hull(face(1).points, (SIZE, SIZE), kind)
        assert set(np.unique(mask)) == {0, 1}
        assert np.all(mask[wanted[kind]] == 1)
        edge = cv2.dilate(wanted[kind].astype(np.uint8), np.ones((3, 3))) > 0
        assert not mask[~edge].any()  # OpenCV draws the outline too, a pixel wide
        areas[kind] = mask.sum()
    assert areas["sectors"] < areas["raised"]


def test_forehead_lies_above_the_brows_and_in_the_width_of_the_face():
    points = face().points
    top = with_forehead(points)[68:]
    assert len(top) == 7
    assert top[1:-1, 1].max() < points[17:27, 1].max()
    assert points[0, 0] - 5 < top[:, 0].min() < top[:, 0].max() < points[16, 0] + 5


def published_soft_mask(mask, sides, kernels, sigma):
    """SBI's get_blend_mask, with its draws as arguments."""
    height, width = mask.shape
    small = cv2.resize(mask, (sides[1], sides[0]))
    blurred = cv2.GaussianBlur(small, (kernels[0], kernels[0]), 0)
    blurred = blurred / blurred.max()
    blurred[blurred < 1] = 0
    blurred = cv2.GaussianBlur(blurred, (kernels[1], kernels[1]), sigma)
    return cv2.resize(blurred / blurred.max(), (width, height))


@pytest.mark.parametrize("seed", range(4))
def test_soft_masks_of_sbi_equal_the_published_ones(seed):
    draw = random.Random(seed)
    mask = hull(face(seed, 200).points, (200, 180))
    sides = draw.randint(192, 256), draw.randint(192, 256)
    kernels = draw.randrange(5, 26, 2), draw.randrange(5, 26, 2)
    sigma = draw.randint(5, 45)
    found = soften(mask, sides, kernels, sigma)
    assert np.allclose(found, published_soft_mask(mask, sides, kernels, sigma), atol=1e-5)
    assert found.max() == pytest.approx(1, abs=1e-5)
    assert not soften(np.zeros_like(mask), sides, kernels, sigma).any()


def test_feather_is_the_distance_to_the_border_over_a_fifth_of_the_longer_side():
    mask = np.zeros((40, 60), np.float32)
    mask[10:31, 5:46] = 1  # 41 pixels wide: 40 from centre to centre
    y, x = np.mgrid[:40, :60]
    inside = mask > 0
    border = np.minimum.reduce([x - 4, 46 - x, y - 9, 31 - y]) * inside
    assert np.allclose(feather(mask), np.clip(border / 8, 0, 1), atol=1e-5)
    to_hull = np.minimum.reduce([x - 5, 45 - x, y - 10, 30 - y]) * inside
    assert np.allclose(feather(mask, distance="hull"), np.clip(to_hull / 8, 0, 1), atol=1e-5)
    assert np.allclose(feather(mask, 0.5)[20], np.clip(border[20] / 20, 0, 1), atol=1e-5)
    assert not feather(np.zeros_like(mask)).any()


def test_hull_feather_equals_the_point_loop_of_the_re_implementations():
    mask = hull(face(2).points, (SIZE, SIZE), "sectors")
    y, x = np.nonzero(mask)
    pixels = np.stack([x, y], 1)
    outline = cv2.convexHull(pixels.astype(np.int32))
    reach = 0.2 * (pixels.max(0) - pixels.min(0)).max()
    wanted = np.zeros_like(mask)
    for a, b in pixels.tolist():
        wanted[b, a] = np.clip(cv2.pointPolygonTest(outline, (a, b), True) / reach, 0, 1)
    assert np.allclose(feather(mask, distance="hull"), wanted, atol=1e-5)


def test_xray_is_one_on_the_half_and_zero_on_either_side():
    assert xray(np.array([0, 0.25, 0.5, 0.75, 1], np.float32)).tolist() == [0, 0.75, 1, 0.75, 0]


def test_erosion_and_dilation_move_the_border_by_half_of_the_square():
    mask = np.zeros((30, 30), np.float32)
    mask[10:20, 10:20] = 1
    for size, side in ((-4, 6), (-5, 6), (3, 12), (0, 10), (-21, 0)):
        assert erode_or_dilate(mask, size).sum() == side**2


def test_a_blend_is_exact_where_the_mask_is_zero_or_one():
    back, front = face(3).image, face(4).image
    mask = np.zeros((SIZE, SIZE), np.float32)
    assert np.array_equal(blend(back, front, mask), back)
    assert np.array_equal(blend(back, front, mask + 1), front)
    mask[20:60, 30:70] = 0.5
    mixed = blend(back, front, mask).astype(int)
    half = np.rint((back.astype(float) + front) / 2)
    assert np.array_equal(mixed[20:60, 30:70], half[20:60, 30:70])
    assert np.array_equal(mixed[:20], back[:20])


def test_matched_colours_have_the_background_s_mean_under_the_mask():
    back = face(5).image.astype(np.float32)
    front = 0.9 * back[:, ::-1] + 20
    mask = hull(face(5).points, (SIZE, SIZE))
    for deviation in (False, True):
        matched = match_colours(front, back, mask, deviation)
        for channel in range(3):
            inside = matched[..., channel][mask > 0], back[..., channel][mask > 0]
            assert inside[0].mean() == pytest.approx(inside[1].mean(), abs=0.01)
            if deviation:
                assert inside[0].std() == pytest.approx(inside[1].std(), abs=0.2)


def test_colour_changes_saturate_and_keep_greys():
    image = np.array([[[250, 5, 128], [100, 100, 100]]], np.uint8)
    assert recolour(image, colour_map(np.array([10.0, -10.0, 0.0])))[0, 0].tolist() == [255, 0, 128]
    turned = recolour(image, colour_map(np.zeros(3), hue=120, saturation=0.5))
    assert turned[0, 1].tolist() == [100, 100, 100]
    brighter = recolour(image, colour_map(np.zeros(3), contrast=1.1, brightness=0.1))
    assert brighter[0, 1].tolist() == [round(110 + 25.5)] * 3


def test_coarse_and_sharp_images_keep_their_mean():
    image = face(7).image
    for changed in (coarsen(image, 2), coarsen(image, 4), sharpen(image, 0.4, 1.0)):
        assert changed.shape == image.shape
        assert abs(changed.mean() - image.mean()) < 3
    assert sharpen(image, 0.4, 0.5).mean() == pytest.approx(0.8 * image.mean(), rel=0.03)
    assert sharpen(image, 0.4, 1.0).std() > image.std() > coarsen(image, 4).std()


def test_similarity_recovers_a_turn_a_scale_and_a_shift():
    points = face().points
    turn = 1.3 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    found = similarity(points, points @ turn.T + [5, -2])
    assert np.allclose(found, np.concatenate([turn, [[5], [-2]]], 1))


def without_after(draws):
    """Draws without what comes after the blend, and at full size."""
    plain = {"quality": None}
    if hasattr(draws, "after"):
        return draws._replace(**plain, after=colour_map(np.zeros(3)))
    return draws._replace(**plain, coarse=None, side=SIZE)


@pytest.mark.parametrize("forger", [SBI(), BI(), BI(align=False, deviation=True, distance="hull")])
def test_pixels_outside_of_the_mask_are_the_real_counterpart_s(forger):
    for seed in range(6):
        draws = without_after(forger.draw(np.random.default_rng(seed), SIZE))
        real, fake = (forger.apply(face(), draws, fake, face(9)) for fake in (False, True))
        if fake is None:
            continue
        outside = fake.mask == 0
        assert not real.mask.any()
        assert 0.1 < outside.mean() < 1
        assert np.array_equal(fake.image[outside], real.image[outside])
        assert np.abs(fake.image[~outside].astype(int) - real.image[~outside]).mean() > 0.5


@pytest.mark.parametrize("forger", [SBI(), BI()])
def test_equal_generators_give_equal_samples(forger):
    def make(seed, fake=True):
        return forger(face(), np.random.default_rng(seed), fake, lambda rng: face(9))

    one, two, other = make(0), make(0), make(1)
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.mask, two.mask)
    assert not np.array_equal(one.image, other.image)
    assert one.image.dtype == np.uint8
    assert one.mask.dtype == np.float32
    assert 0 <= one.mask.min() <= one.mask.max() <= 1


def test_a_mirrored_face_gives_the_mirrored_sample_at_mirrored_draws():
    whole, other = face(), face(9)
    flipped, other_flipped = (
        Face(np.ascontiguousarray(f.image[:, ::-1]), mirrored(f.points, SIZE))
        for f in (whole, other)
    )
    sbi = SBI(hulls=("all",))
    for seed in range(4):
        draws = without_after(sbi.draw(np.random.default_rng(seed), SIZE))
        draws = draws._replace(coarse=0, noise=np.zeros_like(draws.noise))
        back = draws._replace(shift=draws.shift * [-1, 1])
        one, two = sbi.apply(whole, draws, True), sbi.apply(flipped, back, True)
        assert np.abs(one.mask - two.mask[:, ::-1]).mean() < 0.02
        assert np.abs(one.image.astype(int) - two.image[:, ::-1]).mean() < 1.5
    bi = BI(hulls=("all",))
    draws = without_after(bi.draw(np.random.default_rng(0), SIZE))
    draws = draws._replace(bends=np.zeros_like(draws.bends), grow=3)
    one, two = bi.apply(whole, draws, True, other), bi.apply(flipped, draws, True, other_flipped)
    assert np.abs(one.mask - two.mask[:, ::-1]).mean() < 0.02
    assert np.abs(one.image.astype(int) - two.image[:, ::-1]).mean() < 1.5


def test_a_bent_mask_is_moved_by_the_knots():
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 20:40] = 1
    right = np.zeros((4, 4, 2), np.float32)
    right[..., 0] = -0.125  # read 8 pixels further to the left
    assert np.array_equal(bend(mask, right)[:, 28:48], mask[:, 20:40])
    assert np.array_equal(bend(mask, 0 * right), mask)


def test_real_and_forged_samples_have_the_same_colours_around_the_face():
    """A network must not tell the classes by what is changed in both."""
    around = []
    for seed in range(60):
        pair = [SBI()(face(), np.random.default_rng(seed), fake) for fake in (False, True)]
        corner = [sample.image[:12, :12].mean() for sample in pair]
        around.append(corner)
    real, fake = np.array(around).T
    assert np.abs(real - fake).max() < 2.0  # JPEG alone
    assert real.std() > 3


def test_points_outside_of_the_picture_are_an_error_after_ten_draws():
    away = Face(face().image, face().points + 500)
    for forger in (SBI(), BI()):
        with pytest.raises(ValueError, match="its landmarks give an empty mask"):
            forger(away, np.random.default_rng(0), True, lambda rng: face(9))


def test_a_mask_of_a_quarter_has_an_xray_of_three_quarters():
    draws = SBI().draw(np.random.default_rng(0), SIZE)._replace(ratio=0.25)
    made = SBI().apply(face(), draws, True)
    assert made.mask.max() == pytest.approx(0.25, abs=1e-4)
    assert xray(made.mask).max() == pytest.approx(0.75, abs=1e-3)


def test_mirrored_points_lie_on_the_pixels_of_the_mirrored_picture():
    points = np.stack([np.arange(68), np.arange(68) // 2], 1).astype(np.float32)
    picture = np.zeros((40, 90), int)
    picture[points[:, 1].astype(int), points[:, 0].astype(int)] = 1 + np.arange(68)
    moved = mirrored(points, 90).astype(int)
    marked = picture[:, ::-1][moved[:, 1], moved[:, 0]] - 1
    assert sorted(marked) == list(range(68))  # each on a mark
    assert marked[0] == 16  # the ends of the jaw change places
    assert marked[8] == 8
