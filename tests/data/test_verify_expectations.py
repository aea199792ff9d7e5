import json
import shutil
from pathlib import Path

import pytest
from test_verify import findings
from trees import METHODS, write_splits

from tokd_lightning.data.layouts.video_folder import Video
from tokd_lightning.verify.expectations import hold_against
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

SHARED = Path(__file__).parents[3] / "shared" / "splits"
published = pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not at hand")


def unexpected(clips: list[Clip], name) -> dict[str, str]:
    report = Report()
    hold_against(clips, name, report)
    return {item: f.details[item] for f in report.findings() for item in f.items}


def ffpp(quality: str = "c40", methods=METHODS) -> list[Clip]:
    about = ("", "", quality)
    return [
        Clip(Video("ffpp", method, f"{split}{n}", *about, split, ""), "faces", ())
        for split, number in (("train", 720), ("val", 140), ("test", 140))
        for method in ("real", *methods)
        for n in range(number)
    ]


def test_the_published_numbers_of_ffpp_are_expected():
    clips = ffpp() + ffpp("c23", (*METHODS, "FaceShifter"))
    assert unexpected(clips, "ffpp") == {}
    assert unexpected(clips[1:], "ffpp") == {
        "train real, c40 faces": "719 videos, published 720",
    }
    assert unexpected([*clips, clips[-1]], "ffpp") == {
        "test FaceShifter, c23 faces": "141 videos, published 140",
    }
    assert set(unexpected(ffpp(methods=METHODS[1:]), "ffpp")) == {
        f"{split} Deepfakes, c40 faces" for split in ("train", "val", "test")
    }
    assert unexpected([], "ffpp") == {"ffpp": "no videos at all"}


def celebdf(real: int, youtube: int, fake: int, testing: set[str]) -> list[Clip]:
    clips = []
    for part, number in (
        ("Celeb-real", real),
        ("Youtube-real", youtube),
        ("Celeb-synthesis", fake),
    ):
        mine = [name for name in testing if name.lower().startswith(part.lower())]
        names = mine + [f"{part}/more{n}" for n in range(number - len(mine))]
        method = "Celeb-synthesis" if part == "Celeb-synthesis" else "real"
        for name in names:
            split = "test" if name in testing else "train"
            video = Video("celebdf", method, name, "", "", "original", split, f"{part}/x.mp4")
            clips.append(Clip(video, "videos", ()))
    return clips


def test_the_published_numbers_of_celebdf_v1_are_expected():
    assert unexpected(celebdf(158, 250, 795, set()), "celebdf-v1") == {}
    assert list(unexpected(celebdf(158, 250, 794, set()), "celebdf-v1")) == [
        "Celeb-synthesis, original videos"
    ]


@published
def test_the_published_numbers_of_celebdf_v2_are_expected():
    lines = (SHARED / "celebdf_v2_List_of_testing_videos.txt").read_text().splitlines()
    testing = {line.split()[1] for line in lines}
    assert unexpected(celebdf(590, 300, 5639, testing), "celebdf-v2") == {}
    testing.remove(next(name for name in sorted(testing) if name.startswith("Celeb-real")))
    assert unexpected(celebdf(590, 300, 5639, testing), "celebdf-v2") == {
        "test real, original videos": "177 videos, published 178",
    }


@published
@pytest.mark.slow
def test_a_tree_of_the_official_size_is_what_ffpp_publishes(tmp_path):
    splits = ("train", "val", "test")
    pairs = {s: json.loads((SHARED / f"ffpp_{s}.json").read_text()) for s in splits}
    write_splits(tmp_path / "splits", **pairs)
    parts = ["original_sequences/youtube", *(f"manipulated_sequences/{m}" for m in METHODS)]
    for part in parts:
        for a, b in (pair for some in pairs.values() for pair in some):
            for name in (a, b) if part == parts[0] else (f"{a}_{b}", f"{b}_{a}"):
                folder = tmp_path / part / "c23/faces" / name
                folder.mkdir(parents=True)
                (folder / "0.png").write_bytes(b"x")
    found = findings(tmp_path, expect="ffpp", quick=True)
    assert set(found) == {"unreadable-frame", "short-video"}
    assert len(found["short-video"]) == 5000
    lost = tmp_path / parts[3] / "c23/faces" / "_".join(pairs["val"][0])
    shutil.rmtree(lost)
    found = findings(tmp_path, expect="ffpp", quick=True, frames=1)
    assert found["unexpected-count"] == ["val FaceSwap, c23 faces"]
    assert found["missing-video"] == [lost.relative_to(tmp_path).as_posix()]
