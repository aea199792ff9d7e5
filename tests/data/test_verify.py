import json
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.demo import make_demo
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.verify import verify
from tokd_lightning.verify.kinds import KINDS

REAL = "original_sequences/youtube"
FAKE = "manipulated_sequences"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-FF++ as `tokd demo` makes it, 000-001 train, 002-003 val, 004-005 test."""
    root = tmp_path_factory.mktemp("verify") / "demo"
    make_demo(root, identities=6, quality=("c0", "c23", "c40"), frames=5, size=64, workers=1)
    return root


@pytest.fixture
def tree(demo: Path, tmp_path: Path) -> Path:
    return shutil.copytree(demo, tmp_path / "tree")


def findings(path: Path, **options) -> dict[str, list[str]]:
    """Return items by code, and see that the exit code and the JSON agree."""
    file = path.parent / "told.json"
    code = verify(path, json=file, workers=1, **options)
    told = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    wrong = [f for f in told["findings"] if f["severity"] != "note"]
    assert code == bool(wrong)
    assert told["ok"] == (not wrong)
    assert all(f["count"] == len(f["items"]) and f["message"] for f in told["findings"])
    return {f["code"]: f["items"] for f in told["findings"]}


def break_tree(tree: Path) -> dict[str, list[str]]:
    """Plant ten faults and say what should be found."""
    shutil.copy(tree / REAL / "c40/videos/000.mp4", tree / REAL / "c23/videos/000.mp4")
    swapped = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    encode(swapped, tree / FAKE / "FaceSwap/c23/videos/000_004.mp4", "c23")
    leaked = tree / FAKE / "FaceSwap/c23/frames/000_004"
    leaked.mkdir()
    for number, image in enumerate(swapped):
        Image.fromarray(image).save(leaked / f"{number:04d}.png")
    cut = tree / FAKE / "Deepfakes/c40/videos/004_005.mp4"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    folder = tree / REAL / "c23/frames"
    (folder / "000/0002.png").unlink()
    (folder / "000/0002.jpg").write_bytes(b"")
    (folder / "001/0001.png").write_text("this is no picture")
    (folder / "001/0003.png").rename(folder / "001/Bild é 0003.png")
    (tree / "splits/val.json").unlink()
    (tree / FAKE / "loop").symlink_to("..", target_is_directory=True)
    (tree / "manifest.csv").write_text(
        f"path\n{folder.relative_to(tree)}/004/0000.png\n".replace("/", "\\")
    )
    return {
        "split-file": ["val.json"],
        "leaked-donor": ["ffpp/FaceSwap/000_004"],
        "missing-mask": [f"{FAKE}/FaceSwap/masks/frames/000_004"],
        "empty-file": [f"{REAL}/c23/frames/000/0002.jpg"],
        "unreadable-frame": [f"{REAL}/c23/frames/001/0001.png"],
        "broken-video": [f"{FAKE}/Deepfakes/c40/videos/004_005.mp4"],
        "wrong-crf": [f"{REAL}/c23/videos/000.mp4"],
        "link-loop": [f"{FAKE}/loop"],
        "windows-path": [rf"manifest.csv: {REAL}/c23/frames/004/0000.png".replace("/", "\\")],
    }


def test_a_demo_tree_has_nothing_wrong(demo, capsys):
    assert findings(demo) == {}
    assert "nothing wrong" in capsys.readouterr().out


def test_a_broken_tree_gives_exactly_the_right_findings(tree):
    wanted = break_tree(tree)
    assert findings(tree) == wanted


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_training_on_a_broken_tree_obeys_on_error(demo, tree, on_error):
    break_tree(tree)
    shutil.copy(demo / "splits/val.json", tree / "splits/val.json")
    data = FFPPDataModule(
        tree, quality="c23", size=64, batch_size=10, num_workers=0, on_error=on_error
    )
    if on_error == "fail":
        with pytest.raises(TokdError, match=r"cannot read .*c23/frames/00[01]/000[12]"):
            list(data.train_dataloader())
        return
    with pytest.warns(UserWarning, match="cannot be read and is skipped"):
        batches = list(data.train_dataloader())
    table = data.table("train")
    assert sum(len(batch["label"]) for batch in batches) == len(table) == 50
    assert set(table["path"].iloc[sorted(data.skipped["train"])]) == {
        f"{REAL}/c23/frames/000/0002.jpg",
        f"{REAL}/c23/frames/001/0001.png",
    }
    assert "000_004" not in set(table["video"])


def test_json_is_all_there_is_on_standard_output(tree, capsys):
    (tree / REAL / "c23/frames/000/0000.png").write_bytes(b"")
    assert verify(tree, json=True, workers=1) == 1
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"path", "counts", "findings", "ok"}
    assert told["path"] == str(tree)
    (finding,) = told["findings"]
    assert set(finding) == {"code", "severity", "count", "items", "details", "message"}
    cell = {"dataset": "ffpp", "quality": "c40", "kind": "videos", "split": "train"}
    assert cell | {"method": "FaceSwap", "videos": 2, "frames": 10} in told["counts"]


def test_people_see_the_worst_first_and_three_examples(tree, capsys):
    for number in range(5):
        (tree / REAL / f"c23/frames/000/{number:04d}.png").write_bytes(b"")
    (tree / "notes.txt").touch()
    (tree / "[red]x").mkdir()
    verify(tree, workers=1)
    out = capsys.readouterr().out
    assert "and 2 more" in out
    assert "[red]x" in out
    assert out.index("empty-file") < out.index("stray-file")
    assert "5 errors, 1 note" in out


def test_streams_are_held_against_their_folder(tree):
    videos = tree / REAL / "c23/videos"
    noise = np.random.default_rng(1).integers(0, 255, (5, 64, 64, 3), np.uint8)
    encode(noise, videos / "000.mp4", "c0")
    encode(noise + 1, tree / REAL / "c0/videos/001.mp4", "c18")
    stripped = videos / "002.mp4"
    stripped.write_bytes(stripped.read_bytes().replace(b"x264 - core", b"y264 - core"))
    assert findings(tree) == {
        "wrong-crf": [f"{REAL}/c0/videos/001.mp4", f"{REAL}/c23/videos/000.mp4"],
        "unknown-crf": [f"{REAL}/c23/videos/002.mp4"],
    }


def test_broken_short_and_empty_videos_are_found(tree):
    videos = tree / REAL / "c40/videos"
    (videos / "000.mp4").write_bytes(b"")
    (videos / "001.mp4").write_text("no video")
    (videos / "002.mp4").write_bytes(_with_index_first(videos / "002.mp4")[:-30])
    noise = np.random.default_rng(1).integers(0, 255, (4, 64, 64, 3), np.uint8)
    encode(noise, videos / "003.mp4", "c40")
    shutil.copy(videos / "004.mp4", videos / "004.avi")
    shutil.copy(tree / FAKE / "FaceSwap/c40/videos/004_005.mp4", videos / "005.mp4")
    place = f"{REAL}/c40/videos"
    assert findings(tree) == {
        "empty-file": [f"{place}/000.mp4"],
        "broken-video": [f"{place}/001.mp4", f"{place}/002.mp4"],
        "short-video": [f"{place}/003.mp4"],
        "unpaired-frames": ["ffpp/real/003 videos"],
        "same-name": [f"{place}/004.mp4"],
        "duplicate-across-labels": [f"{place}/005.mp4 = {FAKE}/FaceSwap/c40/videos/004_005.mp4"],
    }
    assert set(findings(tree, quick=True)) == {
        "empty-file",
        "broken-video",
        "short-video",
        "unpaired-frames",
        "same-name",
    }


def _with_index_first(video: Path) -> bytes:
    """Copy a video's packets to a file whose index comes first, as published videos have it."""
    out = video.with_name("copy.tmp")
    with (
        av.open(str(video)) as source,
        av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = out.read_bytes()
    out.unlink()
    return content


def test_damage_and_loss_within_a_whole_container_are_found(tree):
    videos = tree / REAL / "c0/videos"
    whole = _with_index_first(videos / "000.mp4")
    (videos / "000.mp4").write_bytes(whole)
    with av.open(str(videos / "000.mp4")) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    start, size = packets[1]
    damaged = bytearray(whole)
    damaged[start + size // 2 : start + size] = bytes(size - size // 2)
    (videos / "000.mp4").write_bytes(damaged)
    (videos / "001.mp4").write_bytes(_with_index_first(videos / "001.mp4"))
    with av.open(str(videos / "001.mp4")) as container:
        last = max(p.pos for p in container.demux(video=0) if p.size)
    (videos / "001.mp4").write_bytes((videos / "001.mp4").read_bytes()[:last])
    place = f"{REAL}/c0/videos"
    assert findings(tree) == {"broken-video": [f"{place}/000.mp4", f"{place}/001.mp4"]}


@pytest.mark.slow
def test_many_files_are_shared_among_processes(tree):
    (tree / REAL / "c23/frames/000/0000.png").write_bytes(b"")
    (tree / REAL / "c23/videos/001.mp4").write_bytes(b"")
    file = tree.parent / "told.json"
    assert verify(tree, workers=2, json=file) == 1
    (finding,) = json.loads(file.read_text())["findings"]
    assert finding["items"] == [f"{REAL}/c23/frames/000/0000.png", f"{REAL}/c23/videos/001.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "--frames must be at least 1"),
        ({"size": -1}, "--size must be at least 1"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"expect": "imagenet"}, "ffpp, celebdf-v1, celebdf-v2"),
        ({"quality": "c99"}, "no videos of quality c99"),
    ],
)
def test_what_cannot_be_verified_is_one_clear_line(demo, options, message):
    with pytest.raises(TokdError, match=message) as caught:
        verify(demo, **options)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_data_set_are_refused(tmp_path):
    (tmp_path / "film.mp4").touch()
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "film.mp4", tmp_path / "empty"):
        with pytest.raises(TokdError):
            verify(path)


def test_the_handbook_explains_every_finding():
    handbook = Path(__file__).parents[2] / "docs/data-findings.md"
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", handbook.read_text(encoding="utf-8"), re.M)
    assert rows == [(code, kind.severity) for code, kind in KINDS.items()]
