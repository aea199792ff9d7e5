"""Two processes tune, average and adapt as one with the whole batch does."""

import pytest
import torch
from processes import one_and_two
from small import floats, furthest, same
from tuned_rank import learned

pytest.importorskip("peft", reason="LoRA needs peft")
pytestmark = pytest.mark.slow

KINDS = [
    "teacher, ema",
    "student, ema",
    "norms",
    "norms of a student, ema",
    "lora, ema, layer decay",
    "norms, recomputed, in parts",
]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def runs(tiny_ffpp, teacher, out):
    """What one process ended with, and each of two."""

    def alone():
        return learned(tiny_ffpp, teacher, out, 1)

    return one_and_two(alone, out, "tuned_rank.py", tiny_ffpp, teacher, out, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_end_with_what_one_ends_with(runs, kind):
    one, first, second = (run[kind] for run in runs)
    assert same(first["end"], second["end"])
    assert furthest(floats(first["end"]), floats(one["end"])) < 1e-9
    for rank in (first, second):
        assert rank["val"] == pytest.approx(one["val"], rel=1e-9)
        assert rank["metrics"] == pytest.approx(one["metrics"], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_trains_has_moved_and_what_is_frozen_has_not(runs, kind):
    for run in runs:
        start, end, frozen = (run[kind][key] for key in ("start", "end", "frozen"))
        adapted = {name for name in frozen if kind.startswith("lora") and "attn" in name}
        moved = {name for name in start if not torch.equal(end[name], start[name].to(end[name]))}
        assert moved
        assert not moved & (set(frozen) - adapted)


@pytest.mark.parametrize("kind", KINDS)
def test_their_checkpoints_agree(runs, out, kind):
    """They hold the average, and what trains goes on with, of adapters and norms alone."""
    one, two = (torch.load(out / f"{kind} {n}.ckpt", weights_only=True) for n in (1, 2))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert furthest(floats(two["state_dict"]), floats(one["state_dict"])) < 1e-9
    if "ema" in kind:
        kept, alone = (c["weights_in_training"] for c in (two, one))
        assert kept["steps"] == alone["steps"] == 6
        assert furthest(floats(kept["state_dict"]), floats(alone["state_dict"])) < 1e-9
        average = {k: two["state_dict"][k] for k in kept["state_dict"]}
        assert furthest(floats(kept["state_dict"]), floats(average)) > 1e-6
    if "frozen" in one["tokd"]:
        assert one["tokd"]["frozen"] == two["tokd"]["frozen"]


def test_both_validate_the_average_of_the_first_whose_statistics_are_saved(runs):
    first, second = (run["moving"] for run in runs[1:])
    assert same(first["end"], second["end"])
    assert first["val"] == second["val"]
    assert first["metrics"] == second["metrics"]
