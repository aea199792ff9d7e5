import cv2
import numpy as np
import pytest

from tokd_lightning.data.blending.points import BROWS, JAW, hull_mask
from tokd_lightning.demo.cast import ProceduralCast, generator
from tokd_lightning.demo.clips import Clip, film
from tokd_lightning.demo.forgeries import FORGERIES, mouth_region
from tokd_lightning.demo.warping import resample, thin_plate_map

METHODS = list(FORGERIES)


@pytest.fixture(scope="module")
def clips():
    cast = ProceduralCast(0, 192)
    return [film(cast.portrait(n), generator(0, n, "clip"), 6, 96) for n in (0, 1)]


def test_clips_move_flicker_and_keep_their_points_on_the_face(clips):
    for clip in clips:
        steps = np.abs(np.diff(clip.frames.astype(float), axis=0)).mean((1, 2, 3))
        assert (steps > 0.5).all()
        assert np.linalg.norm(np.diff(clip.points, axis=0), axis=-1).max() > 0.3
        assert np.ptp(clip.frames.mean((1, 2, 3))) > 0.1
        eyes, chin = clip.points[:, 36:48].mean(1), clip.points[:, 8]
        assert (chin[:, 1] - eyes[:, 1] > 20).all()


def test_eye_points_of_procedural_faces_surround_dark_irises_on_white():
    for number in range(8):
        portrait = ProceduralCast(3, 256).portrait(number)
        seen = portrait.image.astype(float)
        for eye in (portrait.points[36:42], portrait.points[42:48]):
            whole = hull_mask(eye, 256) > 0.9
            middle = hull_mask(eye, 256, grow=0.2) > 0.5
            assert seen[middle].mean() < 0.75 * np.quantile(seen[whole], 0.9)


@pytest.mark.slow
def test_partners_look_alike_and_others_do_not():
    cast = ProceduralCast(0, 128)
    skins = []
    for number in range(24):
        portrait = cast.portrait(number)
        x, y = portrait.points[[2, 30]].mean(0).astype(int)
        skins.append(portrait.image[y - 3 : y + 4, x - 3 : x + 4].mean())
    kin = np.abs(np.diff(np.array(skins).reshape(12, 2), axis=1)).mean()
    assert kin < 0.7 * np.abs(np.subtract.outer(skins, skins)).mean()


def forged(clips: list[Clip], method: str) -> np.ndarray:
    return FORGERIES[method](clips[0], clips[1], np.random.default_rng(0)).frames


@pytest.mark.parametrize("method", METHODS)
def test_a_forgery_leaves_everything_outside_the_face_alone(clips, method):
    fake, target = forged(clips, method), clips[0]
    assert fake.shape == target.frames.shape
    for frame, real, points in zip(fake, target.frames, target.points, strict=True):
        face = points[np.r_[JAW, BROWS]]
        outside = hull_mask(face, 96, feather=5, grow=1.15) < 0.003
        assert outside.sum() > 0.3 * 96**2
        assert np.array_equal(frame[outside], real[outside])
        region = hull_mask(mouth_region(points), 96) > 0.5
        assert np.abs(frame[region].astype(int) - real[region]).mean() > 1


def test_neural_textures_touch_the_mouth_only(clips):
    fake, target = forged(clips, "NeuralTextures"), clips[0]
    for frame, real, points in zip(fake, target.frames, target.points, strict=True):
        eyes = hull_mask(points[36:48], 96, grow=1.1) > 0
        assert np.array_equal(frame[eyes], real[eyes])


def test_swaps_change_the_eyes_and_face2face_only_softens_them(clips):
    changes = {}
    for method in ("Deepfakes", "Face2Face", "FaceSwap"):
        fake = forged(clips, method)
        eyes = [hull_mask(points[36:48], 96) > 0.5 for points in clips[0].points]
        changes[method] = np.mean(
            [
                np.abs(a[m].astype(float) - b[m]).mean()
                for a, b, m in zip(fake, clips[0].frames, eyes, strict=True)
            ]
        )
    assert changes["Face2Face"] < 0.8 * min(changes["Deepfakes"], changes["FaceSwap"])


def sharpness(frames: np.ndarray, clip: Clip) -> float:
    energy = []
    for frame, points in zip(frames, clip.points, strict=True):
        high = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
        face = hull_mask(points[np.r_[JAW, BROWS]], 96, grow=0.75) > 0.9
        energy.append(high[face].std())
    return float(np.mean(energy))


def test_deepfakes_are_coarser_than_faceswap(clips):
    swap = sharpness(forged(clips, "FaceSwap"), clips[0])
    assert sharpness(forged(clips, "Deepfakes"), clips[0]) < 0.8 * swap
    assert sharpness(forged(clips, "Face2Face"), clips[0]) < sharpness(clips[0].frames, clips[0])


def test_neural_textures_leave_a_pattern_of_period_two(clips):
    def period_two(frames: np.ndarray) -> float:
        found = []
        for frame, points in zip(frames, clips[0].points, strict=True):
            region = hull_mask(mouth_region(points), 96, grow=0.9) > 0.99
            y, x = np.nonzero(region)
            pixels = frame[region].astype(float).mean(-1)
            cells = np.array(
                [pixels[(y % 2 == i) & (x % 2 == j)].mean() for i, j in np.ndindex(2, 2)]
            )
            found.append(cells / pixels.mean())
        return float(np.ptp(np.mean(found, 0)))

    assert period_two(forged(clips, "NeuralTextures")) > 3 * period_two(clips[0].frames)


def test_spline_brings_each_point_to_its_place_and_leaves_still_points_alone():
    rng = np.random.default_rng(0)
    to = np.stack(np.meshgrid([10, 30, 50, 70, 90], [15, 35, 60, 80]), -1).reshape(-1, 2) * 1.0
    read = to + rng.normal(0, 2, to.shape)
    where = thin_plate_map(to, read, 96, step=1)
    found = [resample(where[..., axis], to.astype(np.float32)[None])[0] for axis in (0, 1)]
    assert np.abs(np.stack(found, 1) - read).max() < 0.25
    still = thin_plate_map(to, to, 96)
    y, x = np.mgrid[:96, :96]
    assert np.abs(still - np.stack([x, y], -1)).max() < 1e-3
