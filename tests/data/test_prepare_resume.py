import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_videos import contents, make_ffpp_videos

from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import group, prepare, run

SMALL = {"frames": 2, "size": 16, "detector": "none", "workers": 1}
CODE = """
import sys
from pathlib import Path
from tokd_lightning.prepare import prepare
if __name__ == "__main__":
    stored = {"pack": True} if sys.argv[3] == "pack" else {"encoding": "png"}
    prepare("ffpp", Path(sys.argv[1]), Path(sys.argv[2]), frames=8, detector="none", workers=2,
            **stored)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_ffpp_videos(tmp_path_factory.mktemp("ffpp"), ("c23",), 4)


@pytest.fixture(scope="module")
def wanted(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    prepare("ffpp", tree, out, **SMALL)
    return contents(out)


class Died(BaseException):
    """Stands for a kill: nothing that tidies up after errors may see it."""


def calls(tree, out, monkeypatch, at=None) -> int:
    """Prepare, dying at a certain change of the disk; return how many changes there were."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                if function.__name__.startswith("write"):
                    path, content = args[:2]
                    function(path, content[: len(content) // 2])
                raise Died
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "write_bytes", "write_text", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        for module in (group, run):
            patch.setattr(module.shutil, "rmtree", counted(module.shutil.rmtree))
        prepare("ffpp", tree, out, **SMALL)
    return count


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_death_at_any_change_of_the_disk_leaves_no_trace(
    tree, wanted, tmp_path, monkeypatch, every
):
    total = calls(tree, tmp_path / "whole", monkeypatch)
    assert contents(tmp_path / "whole") == wanted
    assert total > 100
    moments = [*range(1, 14), *range(50, 60), *range(total - 22, total + 1)]
    for at in moments[::every]:
        out = tmp_path / str(at)
        with pytest.raises(Died):
            calls(tree, out, monkeypatch, at)
        prepare("ffpp", tree, out, **SMALL)
        assert contents(out) == wanted, at


def test_what_is_done_is_not_done_again(tree, wanted, tmp_path, monkeypatch):
    with pytest.raises(Died):
        calls(tree, tmp_path / "out", monkeypatch, 70)
    done = len(list((tmp_path / "out/.parts").glob("*.json")))
    assert 0 < done < 6
    seen = []

    def spy(job):
        seen.append(job)
        return group.prepare_group(job)

    monkeypatch.setattr(run, "prepare_group", spy)
    prepare("ffpp", tree, tmp_path / "out", **SMALL)
    assert len(seen) == 6 - done
    assert contents(tmp_path / "out") == wanted


def test_interrupted_output_keeps_its_options(tree, tmp_path, monkeypatch):
    with pytest.raises(Died):
        calls(tree, tmp_path / "out", monkeypatch, 70)
    with pytest.raises(TokdError, match="another size"):
        prepare("ffpp", tree, tmp_path / "out", **SMALL | {"size": 64})


def test_disk_that_refuses_is_one_line(tree, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TokdError, match="cannot be written: No space left on device"):
        prepare("ffpp", tree, tmp_path / "out", **SMALL)


def entries(folder: Path) -> int:
    """Count what is in a folder, although it changes meanwhile."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["png", "pack"])
def test_ten_kills_leave_the_same_bytes(tmp_path, stored):
    tree = make_ffpp_videos(tmp_path / "tree", ("c0", "c23", "c40"), 8)
    code = tmp_path / "code.py"
    code.write_text(CODE)
    command = [sys.executable, str(code), str(tree)]
    subprocess.run([*command, str(tmp_path / "whole"), stored], check=True)
    wanted = contents(tmp_path / "whole")
    out = tmp_path / "killed"
    rng = random.Random(0)
    for target in sorted(rng.sample(range(len(wanted) - 5), 10)):
        process = subprocess.Popen([*command, str(out), stored])
        while process.poll() is None and entries(out) <= target:
            time.sleep(rng.uniform(0, 0.02))
        assert process.poll() is None, "it was too fast to be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(out), stored], check=True)
    assert contents(out) == wanted
