import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tokd_lightning.data.blending.points import hull_mask
from tokd_lightning.demo import make_demo, tree
from tokd_lightning.demo.cast import ProceduralCast, generator
from tokd_lightning.demo.clips import film
from tokd_lightning.demo.forgeries import Forged
from tokd_lightning.demo.tree import split_pairs
from tokd_lightning.demo.video import decode
from tokd_lightning.errors import TokdError

SMALL = {"identities": 6, "frames": 3, "size": 64, "workers": 1}
METHODS = ["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "mini"
    make_demo(out, **SMALL)
    return out


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def folders(root: Path, method: str, quality: str = "c23") -> dict[str, Path]:
    where = "original_sequences/youtube" if method == "real" else f"manipulated_sequences/{method}"
    return {path.name: path for path in (root / where / quality / "frames").iterdir()}


def test_tree_is_the_official_one_and_complete(made):
    pairs = [pair for split in split_pairs(6).values() for pair in split]
    frames = ["0000.png", "0001.png", "0002.png"]
    for quality in ("c23", "c40"):
        reals = folders(made, "real", quality)
        assert sorted(reals) == sorted(i for pair in pairs for i in pair)
        for method in METHODS:
            fakes = folders(made, method, quality)
            assert sorted(fakes) == sorted(f"{a}_{b}" for p in pairs for a, b in (p, p[::-1]))
            for name, folder in fakes.items():
                assert sorted(p.name for p in folder.iterdir()) == frames
                assert (folder.parents[1] / "videos" / f"{name}.mp4").is_file()
    assert not list(made.rglob(".*"))


def test_donor_is_on_the_side_of_its_target(made):
    side = {}
    for split in ("train", "val", "test"):
        for pair in json.loads((made / "splits" / f"{split}.json").read_text()):
            side |= dict.fromkeys(pair, split)
    assert len(side) == 6
    assert set(side.values()) == {"train", "val", "test"}
    for name in folders(made, "FaceSwap"):
        target, donor = name.split("_")
        assert side[target] == side[donor]


def test_a_fake_is_its_target_s_clip_with_its_donor_s_face(made):
    def first(method: str, name: str) -> np.ndarray:
        return cv2.imread(str(folders(made, method)[name] / "0000.png")).astype(float)

    rows = {r["video"]: r for r in csv.DictReader((made / "landmarks.csv").open())}
    for name in folders(made, "FaceSwap"):
        target, donor = (first("real", identity) for identity in name.split("_"))
        points = np.array([float(v) for v in list(rows[name[:3]].values())[2:]]).reshape(-1, 2)
        eyes = hull_mask(points[36:48], 64) > 0.5
        around = hull_mask(points, 64, grow=1.3) == 0
        fakes = {method: first(method, name) for method in METHODS}
        for fake in fakes.values():
            assert np.abs(fake - target)[around].mean() < np.abs(fake - donor)[around].mean() / 3
        change = {method: np.abs(fake - target)[eyes].mean() for method, fake in fakes.items()}
        assert change["NeuralTextures"] < change["FaceSwap"]
        assert change["NeuralTextures"] < change["Deepfakes"]


def test_the_donor_s_clip_is_what_a_fake_is_made_from(tmp_path, monkeypatch):
    def copy(target, donor, rng):
        return Forged(donor.frames, np.ones(donor.frames.shape[:3], np.float32))

    monkeypatch.setattr(tree, "FORGERIES", {"FaceSwap": copy})
    make_demo(tmp_path / "mini", **SMALL | {"quality": ["c23"]})
    reals = folders(tmp_path / "mini", "real")
    for name, folder in folders(tmp_path / "mini", "FaceSwap").items():
        assert contents(folder) == contents(reals[name.split("_")[1]])


def test_120_identities_are_split_84_12_24():
    sizes = {split: 2 * len(pairs) for split, pairs in split_pairs(120).items()}
    assert sizes == {"train": 84, "val": 12, "test": 24}


def test_synthetic_notice_and_landmarks_are_there(made):
    assert "SYNTHETIC" in (made / "SYNTHETIC.txt").read_text()
    rows = list(csv.DictReader((made / "landmarks.csv").open()))
    first = [row["video"] + "/" + row["frame"] for row in rows[:4]]
    assert first == ["000/0", "000/1", "000/2", "001/0"]
    assert len(rows) == 36
    points = {(row["video"], row["frame"]): row["x30"] for row in rows}
    assert points["000_001", "2"] == points["000", "2"] != points["001_000", "2"]
    assert all(0 < float(row["x30"]) < 64 and 0 < float(row["y8"]) < 70 for row in rows)


@pytest.mark.parametrize(("quality", "crf"), [("c23", b"crf=23.0"), ("c40", b"crf=40.0")])
def test_encoder_ran_at_the_crf_of_its_folder_in_yuv444p(made, quality, crf):
    videos = sorted(made.rglob(f"{quality}/videos/*.mp4"))
    assert len(videos) == 30
    assert all(crf in video.read_bytes() for video in videos)
    with av.open(str(videos[0])) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].pix_fmt == "yuv444p"


def test_frames_are_the_decoded_video(made):
    for folder in folders(made, "Deepfakes", "c40").values():
        video = decode(folder.parents[1] / "videos" / f"{folder.name}.mp4")
        frames = [cv2.imread(str(p))[..., ::-1] for p in sorted(folder.iterdir())]
        assert np.array_equal(video, np.stack(frames))


def test_raw_is_lossless_up_to_the_colour_space(tmp_path):
    frames = film(ProceduralCast(0, 128).portrait(0), generator(0, 0, "clip"), 3, 64).frames
    tree.encode(frames, tmp_path / "x.mp4", "raw")
    assert np.abs(decode(tmp_path / "x.mp4").astype(int) - frames).max() <= 4
    assert b"qp=0" in (tmp_path / "x.mp4").read_bytes()


@pytest.mark.slow
def test_two_workers_make_the_bytes_of_one(made, tmp_path):
    make_demo(tmp_path / "mini", **{**SMALL, "workers": 2})
    assert contents(tmp_path / "mini") == contents(made)


def test_another_seed_makes_other_people(made, tmp_path):
    make_demo(tmp_path / "mini", **SMALL | {"quality": ["c23"]}, seed=1)
    here, there = folders(made, "real"), folders(tmp_path / "mini", "real")
    first = [cv2.imread(str(f["000"] / "0000.png")).astype(float) for f in (here, there)]
    assert np.abs(first[0] - first[1]).mean() > 10


def test_a_finished_tree_is_reused_with_one_line(made, capsys, monkeypatch):
    monkeypatch.setattr(tree, "encode", None)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    make_demo(made, **SMALL)
    assert capsys.readouterr().out.strip().endswith("made earlier with the same arguments, reused")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_tree_that_an_earlier_version_made_without_masks_is_reused_and_said_to_be(
    made, tmp_path, capsys
):
    old = shutil.copytree(made, tmp_path / "old", ignore=shutil.ignore_patterns("masks"))
    make_demo(old, **SMALL)
    assert "reused; it has no masks" in capsys.readouterr().out


def test_an_interrupted_tree_does_not_pass_as_finished_and_is_completed(
    made, tmp_path, monkeypatch
):
    calls = []

    def dies(frames, path, quality):
        calls.append(path)
        if len(calls) == 29:
            path.write_bytes(b"half a video")
            raise KeyboardInterrupt
        real_encode(frames, path, quality)

    real_encode = tree.encode
    monkeypatch.setattr(tree, "encode", dies)
    out = tmp_path / "mini"
    with pytest.raises(KeyboardInterrupt):
        make_demo(out, **SMALL)
    assert not (out / "splits").exists()
    assert not (out / "landmarks.csv").exists()
    assert not json.loads((out / "demo.json").read_text())["finished"]
    for video in out.rglob("*.mp4"):
        assert len(decode(video)) == 3
    make_demo(out, **SMALL)
    # 20 videos a pair: the first pair was complete and is not made again.
    assert len(calls) == 29 + 40
    assert contents(out) == contents(made)


@pytest.mark.slow
def test_killed_with_its_workers_it_is_completed_later(made, tmp_path):
    out = tmp_path / "mini"
    call = f"make_demo(Path({str(out)!r}), **{SMALL | {'workers': 2}})"
    code = f"from pathlib import Path; from tokd_lightning.demo import make_demo; {call}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.rglob("*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(1)
    state = contents(out)
    assert len(state) < len(contents(made))
    time.sleep(2)
    assert contents(out) == state
    make_demo(out, **SMALL)
    assert contents(out) == contents(made)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"identities": 7}, "even number"),
        ({"identities": 4}, "even number >= 6"),
        ({"quality": ["c23", "best"]}, "'best'"),
        ({"quality": ["c52"]}, "'c52'"),
        ({"quality": []}, "quality"),
        ({"faces": Path("there")}, "--landmarks"),
        ({"size": 50}, "size 50"),
        ({"seed": -1}, "seed -1"),
        ({"faces": Path("nowhere"), "landmarks": Path("x.csv")}, "nowhere is not a folder"),
    ],
)
def test_arguments_that_cannot_be_met_are_named(tmp_path, arguments, says):
    with pytest.raises(TokdError, match=says):
        make_demo(tmp_path / "mini", **SMALL | arguments)
    assert not (tmp_path / "mini").exists()


def test_other_arguments_and_foreign_folders_are_refused(made, tmp_path):
    with pytest.raises(TokdError, match="another seed: choose another --out"):
        make_demo(made, **SMALL, seed=3)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TokdError, match="not a demo made by tokd"):
        make_demo(tmp_path, **SMALL)
    with pytest.raises(TokdError, match="not a demo made by tokd"):
        make_demo(tmp_path / "thesis.txt", **SMALL)
    assert contents(tmp_path) == {"thesis.txt": b"precious"}
