"""Two processes train a detector as one with the whole batch does."""

import pytest
from detector_rank import MAKERS, learned
from processes import one_and_two
from small import floats, furthest, halved, same, sgd, snapshot

from tokd_lightning.modules import DetectorModule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tiny_ffpp, tmp_path_factory):
    out = tmp_path_factory.mktemp("detectors")
    return one_and_two(lambda: learned(tiny_ffpp, 1), out, "detector_rank.py", tiny_ffpp, out, 2)


@pytest.mark.parametrize("name", ["rfm 1", "multiatt 1"])
def test_two_processes_learn_what_one_learns(runs, name):
    one, first, second = (run[name] for run in runs)
    assert same(first, second)
    assert furthest(floats(one), floats(first)) < 1e-5
    start = snapshot(DetectorModule(MAKERS[name.split()[0]], sgd, halved))
    moved = {k: v for k, v in floats(start).items() if "classifier" in k or "centres" in k}
    assert furthest({k: one[k].to(moved[k]) for k in moved}, moved) > 1e-4


def test_centres_move_and_are_equal_on_both_processes(runs):
    one, first, second = (run["multiatt 1"]["loss.centres"] for run in runs)
    assert float(one.norm()) > 0
    assert (first - one).norm() < 1e-6 * one.norm()
    assert (first - second).norm() == 0


def test_rfm_in_parts_erases_what_the_whole_batch_erases(runs):
    for run in runs:
        assert furthest(floats(run["rfm 3"]), floats(run["rfm 1"])) < 1e-4
