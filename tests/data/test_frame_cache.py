import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from trees import make_ffpp

from tokd_lightning.data.cache import cache_file, read_cache, write_cache
from tokd_lightning.data.layouts import frame_cache, video_folder
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.layouts.frame_cache import FrameCache
from tokd_lightning.data.layouts.video_folder import choose_counted, choose_frames
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError

LATER = 10_000_000_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tokd_lightning"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tree be made some seconds ago."""
    now = frame_cache.time_ns
    monkeypatch.setattr(frame_cache, "time_ns", lambda: now() + LATER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "faces/000"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number:04d}.png").touch()
    return folder


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Places that were looked into."""
    seen: list[str] = []
    listing, reading = video_folder.list_frames, video_folder.pack_frames

    def note(function):
        return lambda place: (seen.append(place.name), function(place))[1]

    monkeypatch.setattr(video_folder, "list_frames", note(listing))
    monkeypatch.setattr(video_folder, "pack_frames", note(reading))
    return seen


def choose(place: Path, count: int = 3):
    cache = FrameCache(count)
    chosen, _ = cache.choose(place, choose_counted)
    cache.save()
    return chosen


def test_a_tree_is_listed_once(tmp_path, home, later, listings):
    make_ffpp(tmp_path / "tree", ids=6, frames=5, size=8)
    first = scan_ffpp(tmp_path / "tree", "c23", frames_per_video=3)
    assert len(listings) == 30
    again = scan_ffpp(tmp_path / "tree", "c23", frames_per_video=3)
    assert len(listings) == 30
    assert again.manifest.equals(first.manifest)
    assert again.manifest.dtypes.equals(first.manifest.dtypes)
    assert len(list(home.iterdir())) == 5


def test_what_is_recalled_is_what_would_be_chosen(folder, home, later, listings):
    for count in (1, 3, 5, 9):
        assert choose(folder, count) == choose_frames(folder, count)
        listings.clear()
        assert choose(folder, count) == choose_frames(folder, count)
        assert len(listings) == 1  # by the comparison itself


def add(folder):
    (folder / "0100.png").touch()


def remove(folder):
    (folder / "0002.png").unlink()


def rename(folder):
    (folder / "0002.png").rename(folder / "0022.png")


def replace(folder):
    shutil.move(folder, folder.with_name("old"))
    shutil.copytree(folder.with_name("old"), folder)
    (folder / "0001.png").unlink()
    old = folder.with_name("old").stat()
    os.utime(folder, ns=(old.st_atime_ns, old.st_mtime_ns))


def add_and_set_the_clock_back(folder):
    old = folder.stat()
    add(folder)
    os.utime(folder, ns=(old.st_atime_ns, old.st_mtime_ns))


@pytest.mark.parametrize("change", [add, remove, rename, replace, add_and_set_the_clock_back])
def test_a_changed_folder_is_listed_anew(folder, home, later, listings, change):
    choose(folder, 9)
    change(folder)
    assert choose(folder, 9) == choose_frames(folder, 9)
    assert listings == ["000"] * 3


def test_a_folder_listed_right_after_a_change_is_not_remembered(folder, home, monkeypatch):
    # Its next change may bear the same time, as on a file system that counts in seconds.
    choose(folder, 9)
    assert not home.exists()
    changed = folder.stat().st_ctime_ns
    for age, kept in ((1_999_999_999, False), (2_000_000_001, True)):
        monkeypatch.setattr(frame_cache, "time_ns", lambda age=age: changed + age)
        choose(folder, 9)
        assert home.exists() == kept


def test_the_same_time_after_a_second_change_deceives_nobody(folder, home, monkeypatch):
    second = folder.stat().st_mtime_ns // 10**9 * 10**9
    real = os.stat

    class Coarse:
        """A file system that counts in seconds and stands still."""

        def __init__(self, stat):
            self.st_mtime_ns = self.st_ctime_ns = second
            self.st_ino, self.st_size, self.st_mode = stat.st_ino, 4096, stat.st_mode

    monkeypatch.setattr(frame_cache, "time_ns", lambda: second + 900_000_000)
    monkeypatch.setattr(frame_cache.os, "stat", lambda p, **k: Coarse(real(p, **k)))
    first = choose(folder, 9)
    (folder / "0100.png").touch()
    assert len(choose(folder, 9)) == len(first) + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"{ broken",
        lambda data: data[:-3],
        lambda data: data.replace(b"0002", b"0009"),
        lambda data: data.split(b"\n")[1],
        lambda data: b"\xff" + data,
        lambda data: b"\n[]",
    ],
)
def test_a_damaged_cache_only_costs_time(folder, home, later, listings, damage):
    choose(folder, 9)
    (cache,) = home.iterdir()
    cache.write_bytes(damage(cache.read_bytes()))
    assert choose(folder, 9) == choose_frames(folder, 9)
    listings.clear()
    choose(folder, 9)
    assert listings == []


def test_a_cache_that_cannot_be_written_only_costs_time(folder, tmp_path, later, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose(folder) == choose(folder) == choose_frames(folder, 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "dir"))
    cache_file(f"frames{frame_cache._FORM}-3", folder.parent).mkdir(parents=True)
    assert choose(folder) == choose(folder) == choose_frames(folder, 3)
    assert [p.suffix for p in (tmp_path / "dir/tokd_lightning").iterdir()] == [".json"]


def test_packs_are_remembered_until_they_change(tmp_path, home, later, listings):
    pack = tmp_path / "000.npy"
    images = np.zeros((4, 3, 2, 2), np.uint8)
    write_pack(pack, [0, 5, 9, 11], images)
    assert choose(pack, 2) == choose(pack, 2) == [(5, "#1"), (11, "#3")]
    assert listings == ["000.npy"]
    write_pack(pack, [1, 5, 9, 12], images)
    assert choose(pack, 2) == [(5, "#1"), (12, "#3")]
    pack.write_bytes(b"x")
    with pytest.raises(TokdError, match=r"cannot read .*000.npy"):
        choose(pack, 2)


def test_other_videos_of_a_folder_stay_remembered(folder, home, later, listings):
    other = shutil.copytree(folder, folder.with_name("001"))
    choose(folder)
    choose(other)
    listings.clear()
    choose(folder)
    choose(other)
    assert listings == []


def test_a_folder_that_is_gone_is_not_recalled(folder, home, later):
    choose(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        choose(folder)


def hammer(home, place, rounds, seed):
    os.environ["XDG_CACHE_HOME"] = str(home)
    file = cache_file("test", place)
    for number in range(rounds):
        assert set(read_cache(file)) == {"who", "fill"}
        write_cache(file, {"who": [seed, number], "fill": "x" * (seed + 1) * 20_000})


def test_processes_that_write_at_once_leave_one_whole_cache(tmp_path, home):
    write_cache(cache_file("test", "place"), {"who": [], "fill": ""})
    context = multiprocessing.get_context("fork")
    arguments = [(home.parent, "place", 50, seed) for seed in range(4)]
    workers = [context.Process(target=hammer, args=a) for a in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [w.exitcode for w in workers] == [0] * 4
    who, number = read_cache(cache_file("test", "place"))["who"]
    assert (0 <= who < 4, number) == (True, 49)
    assert len(list(home.iterdir())) == 1


def test_what_is_kept_comes_back(home):
    entries = {"a/ü 視": [1, 2.5, None, ["x"]], "\udce4": {}}
    file = cache_file("kind", "subject")
    write_cache(file, entries)
    assert read_cache(file) == entries
    assert json.loads(file.read_bytes().split(b"\n", 1)[1]) == entries
    assert read_cache(cache_file("kind", "other")) == {}
