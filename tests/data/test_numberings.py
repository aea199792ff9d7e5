"""Numbers of frames: read from names, and held against those of another quality."""

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from trees import write_splits

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.layouts.numbering import ambiguous, frame_numbers
from tokd_lightning.data.layouts.video_folder import choose_frames
from tokd_lightning.errors import TokdError

NAMES = {
    "frame, then face": ("{}_0.png", [10, 20, 30]),
    "frame, then subject": ("fr{:03d}_subj0.jpg", [10, 20, 100]),
    "frame, then compression": ("x_{:04d}_c23.png", [10, 11, 12]),
    "pair, then frame": ("000_003_{:04d}.png", [3, 9, 10]),
    "video's date, then frame": ("20190304-{}.jpg", [7, 8, 10]),
    "frame, then size": ("{:05d}_299x299.png", [7, 8, 10]),
    "face first": ("face2-{}.jpg", [1, 2, 3]),
    "plain": ("{:04d}.png", [0, 3, 6]),
}


@pytest.mark.parametrize(("form", "numbers"), NAMES.values(), ids=NAMES)
def test_a_frame_is_numbered_by_what_varies_in_its_name(tmp_path, form, numbers):
    names = [form.format(n) for n in numbers]
    assert frame_numbers(names) == numbers
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / names[0]).with_suffix(".txt").touch()
    assert choose_frames(tmp_path, 2) == [
        (n, f"/{form.format(n)}") for n in (numbers[0], numbers[2])
    ]


def test_one_frame_alone_is_not_numbered_by_its_compression():
    assert frame_numbers(["x_0010_c23.png"]) == frame_numbers(["x_0010_c40.png"]) == [10]


def test_names_that_allow_another_reading_are_shown_with_the_number():
    names = ["fr010_subj0.jpg", "fr020_subj0.jpg"]
    assert ambiguous(names, [10, 20]) == "10 of fr010_subj0.jpg"
    both = ["f1_t40.png", "f2_t80.png"]
    assert ambiguous(both, frame_numbers(both)) == "40 of f1_t40.png"
    assert ambiguous(["000_003_0010.png", "000_003_0011.png"], [10, 11]) == ""
    assert ambiguous(names, [4, 5]) == ""  # a column says so


def test_two_faces_of_a_frame_stay_two_images_of_one_number():
    assert frame_numbers(["10_0.png", "10_1.png", "11_0.png", "12_0.png"]) == [10, 10, 11, 12]


PAIRS = {"train": [["000", "001"]], "val": [["002", "003"]], "test": [["004", "005"]]}
LENGTH = 12


def film(number: int, length: int) -> list[np.ndarray]:
    """Draw a square that crosses a picture, a little further in every frame."""
    frames = []
    for n in range(length):
        frame = np.full((64, 64, 3), 40 + 10 * number, np.uint8)
        frame[20:40, 2 + 3 * n : 14 + 3 * n] = 200
        frames.append(frame)
    return frames


def tree(root: Path, names: dict[str, list[int]], still: bool = False) -> Path:
    """Make an FF++ tree of frames whose files have these numbers at each quality.

    The number of files says which frames of the video they are: evenly spaced ones.
    """
    write_splits(root / "splits", **PAIRS)
    donors = {a: b for pairs in PAIRS.values() for pair in pairs for a, b in (pair, pair[::-1])}
    for level, (quality, numbers) in enumerate(names.items()):
        for n, (target, donor) in enumerate(donors.items()):
            for part, video in (
                ("original_sequences/youtube", target),
                ("manipulated_sequences/Deepfakes", f"{target}_{donor}"),
            ):
                folder = root / part / quality / "faces" / video
                folder.mkdir(parents=True)
                frames = film(n, LENGTH)
                step = LENGTH // len(numbers)
                for i, number in enumerate(numbers):
                    image = frames[0 if still else i * step].astype(int)
                    noise = np.random.default_rng([level, n, i]).normal(0, 4, image.shape)
                    pixels = (image + noise).clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return root


def pairs(root: Path):
    module = FFPPDataModule(
        root, quality="c40", teacher_quality="c23", methods=["Deepfakes"], size=48, num_workers=0,
        max_unpaired=1.0, frames_per_video=6,
    )  # fmt: skip
    module.say = (lines := []).append
    module.setup("fit")
    return module.table("train"), lines


def moments(paths, offset):
    return [int(path.rpartition("/")[2].removesuffix(".png")) - offset for path in paths]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("ours", "theirs"), [(0, 1), (1, 0), (0, 5)])
@pytest.mark.parametrize("still", [False, True])
def test_frames_counted_from_0_and_from_1_are_paired_by_their_moment(tmp_path, ours, theirs, still):
    counts = {"c40": range(ours, ours + LENGTH), "c23": range(theirs, theirs + LENGTH)}
    train, lines = pairs(tree(tmp_path, counts, still))
    assert moments(train["teacher_path"], theirs) == moments(train["path"], ours)
    assert len(train) == 4 * 6
    told = next(line for line in lines if "other frame numbers" in line)
    assert f"paired with a difference of {theirs - ours}" in told


def test_frames_that_a_program_counted_anew_are_refused(tmp_path):
    root = tree(tmp_path, {"c40": range(4), "c23": range(LENGTH)})
    with pytest.raises(TokdError, match="the pictures of one number are not of one moment"):
        pairs(root)


def test_fewer_frames_of_the_same_moments_are_paired_with_a_word(tmp_path):
    train, lines = pairs(tree(tmp_path, {"c40": range(0, LENGTH, 3), "c23": range(LENGTH)}))
    assert moments(train["teacher_path"], 0) == moments(train["path"], 0)
    assert any("frames of one number are paired" in line for line in lines)


def test_equal_numbers_are_paired_without_a_word(tmp_path):
    _, lines = pairs(tree(tmp_path, {"c40": range(LENGTH), "c23": range(LENGTH)}))
    assert [line for line in lines if "paired" in line] == [
        "24 training frames at c40 are paired with c23, none is left out"
    ]


@pytest.mark.slow
def test_ffmpegs_own_numbering_is_aligned_with_opencvs(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    root = tree(tmp_path, {"c40": range(LENGTH), "c23": range(LENGTH)})
    for folder in root.glob("*/*/c23/faces/*"):
        video = folder.with_suffix(".mp4")
        with av.open(str(video), "w") as file:
            stream = file.add_stream("libx264", 25, options={"crf": "10"})
            stream.width = stream.height = 64
            for path in sorted(folder.iterdir()):
                pixels = np.asarray(Image.open(path))
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                path.unlink()
            file.mux(stream.encode())
        command = [ffmpeg, "-v", "error", "-i", video, folder / "%04d.png"]
        subprocess.run(command, check=True)
        video.unlink()
    assert sorted(p.name for p in folder.iterdir())[0] == "0001.png"
    train, _ = pairs(root)
    assert moments(train["teacher_path"], 1) == moments(train["path"], 0)
