import gc
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

# Read once, when the first product on a GPU is made; deterministic runs need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
from trees import make_ffpp

# Threads that wait for each other make tiny networks several times slower.
torch.set_num_threads(1)

# Files whose tests share what costs seconds: an exported student, runs, a teacher.
TOGETHER = (
    ("tests/deploy/",),
    ("tests/test_evaluate", "tests/test_robustness", "tests/test_fuzz_cli", "tests/test_identity",
     "tests/test_shorthand", "tests/test_whole_images", "tests/test_generalisation"),
    ("tests/test_cli", "tests/test_cohort", "tests/test_own", "tests/test_methods_cli",
     "tests/test_wandb_cli", "tests/test_probe", "tests/whole/"),
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one worker, and those that share something to the same."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((group[0] for group in TOGETHER if file.startswith(group)), file)

    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what was imported: a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


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
    from evaluated import SHORT, fit_and_test
    from test_cli import TINY_STUDENT

    runs = tmp_path_factory.mktemp("runs")
    return fit_and_test("demo_vanilla", tiny_ffpp, runs, *TINY_STUDENT, *SHORT)


@pytest.fixture(scope="session")
def small_teacher(tiny_ffpp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best.ckpt of a teacher that was fitted in three batches. Do not write beside it."""
    from test_cli import TINY_TEACHER, tokd

    runs = tmp_path_factory.mktemp("teacher")
    assert tokd("fit", "demo_teacher", tiny_ffpp, runs, *TINY_TEACHER) == 0
    [best] = runs.glob("*/checkpoints/best.ckpt")
    return best
