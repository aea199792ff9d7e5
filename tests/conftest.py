import logging
import os
from collections import Counter
from pathlib import Path

# Read once, when the first product on a GPU is made; deterministic runs need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
from trees import make_ffpp

# Threads that wait for each other make tiny networks several times slower.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("thinned"):
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker("slow")
            seen[test] += 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _heard_by_caplog() -> None:
    """Let Lightning's messages reach caplog, whatever an earlier test or import has set."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.INFO)


@pytest.fixture(scope="session")
def tiny_ffpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FF++ tree: 10 identities (6 train, 2 val, 2 test), 4 methods, 4 faces of 48 px, c23.

    Do not write into it; copy it, or make one with ``trees.make_ffpp``.
    """
    return make_ffpp(tmp_path_factory.mktemp("ffpp"))


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep content hashes of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def celebdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Celeb-DF tree whose fakes are brighter. Do not write into it."""
    from evaluated import bright_celebdf  # with all that tests of the command need

    return bright_celebdf(tmp_path_factory.mktemp("celebdf"))


@pytest.fixture(scope="session")
def trained(tiny_ffpp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two batches on ``tiny_ffpp``. Copy it to write into it."""
    from evaluated import SHORT, TINY_STUDENT, fit_and_test, folder

    runs = tmp_path_factory.mktemp("runs")
    fit_and_test("demo_vanilla", tiny_ffpp, runs, *TINY_STUDENT, *SHORT)
    return folder(runs, "vanilla")
