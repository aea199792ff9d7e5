from functools import partial

import pytest
from gather_rank import METHODS, rehearse
from processes import one_and_two
from small import floats, furthest, same

pytestmark = pytest.mark.slow  # test_two_processes has the others
APART = ("pkt apart", "sp apart")


@pytest.fixture(scope="module")
def runs(tiny_ffpp, teacher, tmp_path_factory):
    """What one process ended with, and each of two."""
    out = tmp_path_factory.mktemp("ranks")
    alone = partial(rehearse, tiny_ffpp, teacher, 1)
    return one_and_two(alone, out, "gather_rank.py", tiny_ffpp, teacher, out, 2)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in APART])
def test_two_processes_learn_what_one_with_the_whole_batch_learns(runs, name):
    one, two, _ = (floats(run[name]) for run in runs)
    assert furthest(two, one) < 1e-9


@pytest.mark.parametrize("name", APART)
def test_without_gathering_each_process_sees_its_own_part_of_the_batch(runs, name):
    one, two, _ = (floats(run[name]) for run in runs)
    assert furthest(two, one) > 1e-6


def test_pcgrad_had_conflicts_of_tokds_branches_to_resolve(runs):
    for part in ("student.", "distiller.rotation."):
        projected, added = (
            {k: v for k, v in floats(runs[1][name]).items() if k.startswith(part)}
            for name in ("tokd pcgrad", "tokd")
        )
        assert furthest(projected, added) > 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_same_bits(runs, name):
    assert same(runs[1][name], runs[2][name])
