"""SyncBatchNorm's own kernels: two processes on one GPU learn what one does."""

from functools import partial

import pytest
from processes import one_and_two
from rank import moving
from small import floats, furthest, same

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def runs(tiny_ffpp, teacher, tmp_path_factory):
    """What one process ended with, and each of two."""
    out = tmp_path_factory.mktemp("synced")
    alone = partial(moving, tiny_ffpp, teacher, 1, accelerator="gpu")
    given = tiny_ffpp, teacher, out, "gpu"
    return one_and_two(alone, out, "synced_rank.py", *given, numbered="NODE_RANK")


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_with_shared_statistics_two_processes_learn_what_one_does(runs, kind):
    one, first, second = (run[kind] for run in runs)
    ours, theirs = floats(first["state"]), floats(one["state"])
    assert any("running_var" in name for name in ours)
    assert furthest(ours, theirs) < 1e-7
    assert first["val"] == pytest.approx(one["val"], rel=1e-6)
    assert first["norms"] == one["norms"]
    assert same(first["state"], second["state"])
