"""Processes that read files for `tokd detect` may die or hang."""

import os
import time
from pathlib import Path

import pytest

from tokd_lightning.deploy import workers
from tokd_lightning.deploy.found import ReadOptions
from tokd_lightning.deploy.workers import read_all
from tokd_lightning.errors import TokdError

WANTED = ReadOptions(4, 64, "haar", 1.3, False)


class Doing:
    """Runs a function in the process that is to read it, in place of the file."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


def read(*files, count=1, limit=30.0, wanted=WANTED):
    return dict(read_all(files, wanted, count, limit))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("count", [1, 2])
def test_a_process_that_dies_or_hangs_costs_its_file_alone(count, mixed):
    picture = mixed / "dark.png"
    started = time.monotonic()
    found = read(
        picture, Doing(os._exit, 1), picture, Doing(time.sleep, 60), picture, Doing(os.abort),
        count=count, limit=1.0,
    )  # fmt: skip
    assert time.monotonic() - started < 20
    assert [found[n].status for n in range(6)] == [
        "scored", "unreadable", "scored", "too_slow", "scored", "unreadable",
    ]  # fmt: skip
    assert "crashed" in found[1].note
    assert found[0].looks[0].face.shape == (64, 64, 3)


def test_memory_is_bounded(mixed):
    found = read(Doing(bytes, 6 << 30), mixed / "dark.png")
    assert [found[n].status for n in range(2)] == ["unreadable", "scored"]


@pytest.mark.slow
def test_a_slow_reader_of_the_results_does_not_make_files_slow(mixed):
    statuses = []
    for _, found in read_all([mixed / "dark.png"] * 3, WANTED, 2, limit=0.6):
        time.sleep(0.8)
        statuses.append(found.status)
    assert statuses == ["scored"] * 3


def test_a_detector_that_is_not_there_is_said_once(mixed):
    with pytest.raises(TokdError, match="no detector"):
        read(mixed / "dark.png", wanted=WANTED._replace(detector="/nowhere.onnx"))
    assert read(Path("/nowhere"), wanted=WANTED)[0].status == "unreadable"


def test_processes_that_end_at_their_start_are_given_up(mixed, monkeypatch):
    monkeypatch.setattr(workers, "_work", os.getpid)  # which takes no arguments
    with pytest.raises(TokdError, match=r"end at their start \(exit code 1\)"):
        read(mixed / "dark.png", mixed / "dark.png")
