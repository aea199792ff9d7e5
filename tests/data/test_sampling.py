import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokd_lightning.data.sampling import EvaluationBatches, EveryNth, TrainingBatches
from tokd_lightning.errors import TokdError

LABELS = np.array(([0] + [1] * 4) * 13)  # 13 real, 52 fake
BALANCES = ("none", "repeat_real", "half_batch", "loss_weight")


def epoch(batches: TrainingBatches, number: int = 0) -> list[list[int]]:
    batches.set_epoch(number)
    return list(batches)


def flat(batches) -> list[int]:
    return [row for batch in batches for row in batch]


def test_unbalanced_epochs_take_every_frame_once_up_to_the_last_whole_batch():
    batches = epoch(TrainingBatches(LABELS, 8))
    rows = flat(batches)
    assert len(batches) == 65 // 8
    assert {len(batch) for batch in batches} == {8}
    assert len(set(rows)) == len(rows) == 64


def test_half_of_every_half_batch_is_real():
    batches = epoch(TrainingBatches(LABELS, 8, "half_batch", samples_per_epoch=160))
    assert len(batches) == 20
    assert all(LABELS[batch].sum() == 4 for batch in batches)
    reals = Counter(row for batch in batches for row in batch if LABELS[row] == 0)
    assert set(reals.values()) == {6, 7}  # 80 draws of 13, each before any is repeated
    fakes = Counter(row for batch in batches for row in batch if LABELS[row] == 1)
    assert set(fakes.values()) == {1, 2}
    assert len(fakes) == 52


def test_half_batches_are_half_real_on_every_process_too():
    for rank in range(2):
        batches = epoch(TrainingBatches(LABELS, 8, "half_batch", rank=rank, world=2))
        assert all(LABELS[batch].tolist() == [0, 1, 0, 1] for batch in batches)


def test_repeat_real_makes_real_as_many_as_fake():
    sampler = TrainingBatches(LABELS, 8, "repeat_real")
    rows = flat(epoch(sampler))
    assert len(sampler) == 104 // 8
    number = Counter(rows)
    assert {number[row] for row in np.flatnonzero(LABELS == 1)} == {1}
    assert {number[row] for row in np.flatnonzero(LABELS == 0)} == {4}
    assert len({LABELS[batch].sum() for batch in epoch(sampler)}) > 1


def test_repeat_real_leaves_a_set_with_more_real_than_fake_alone():
    rows = flat(epoch(TrainingBatches(1 - LABELS, 5, "repeat_real")))
    assert sorted(rows) == list(range(65))


def test_loss_weight_draws_like_none():
    assert epoch(TrainingBatches(LABELS, 8, "loss_weight")) == epoch(TrainingBatches(LABELS, 8))


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("world", [2, 4])
def test_processes_see_together_what_one_would_see(balance, world):
    whole = epoch(TrainingBatches(LABELS, 8, balance, 40, seed=3), 2)
    parts = [
        epoch(TrainingBatches(LABELS, 8, balance, 40, seed=3, rank=rank, world=world), 2)
        for rank in range(world)
    ]
    assert [flat(pieces) for pieces in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("balance", BALANCES)
def test_order_depends_on_seed_and_epoch_alone(balance):
    first = TrainingBatches(LABELS, 8, balance, seed=1)
    one, two = epoch(first, 0), epoch(first, 1)
    random.seed(5)  # no global generator matters; lint keeps out NumPy's
    torch.manual_seed(5)
    assert epoch(TrainingBatches(LABELS, 8, balance, seed=1), 1) == two
    assert one != two
    assert epoch(TrainingBatches(LABELS, 8, balance, seed=2), 0) != one


def test_more_samples_than_frames_go_round_again():
    rows = flat(epoch(TrainingBatches(LABELS, 13, samples_per_epoch=130)))
    assert set(Counter(rows).values()) == {2}


def test_an_epoch_can_begin_in_its_middle_once():
    sampler = TrainingBatches(LABELS, 8)
    whole = epoch(sampler, 4)
    sampler.resume(4, 3)
    assert len(sampler) == 8
    assert epoch(sampler, 4) == whole[3:]
    assert epoch(sampler, 4) == whole
    sampler.resume(4, 3)
    assert len(epoch(sampler, 5)) == 8
    sampler.resume(4, 8)
    assert epoch(sampler, 4) == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS, 66), "an epoch of 65 training frames does not fill one batch of 66"),
        ((LABELS, 8, "none", 7), "an epoch of 7 training frames"),
        ((LABELS, 5, "half_batch"), "even batch size, not 5"),
        ((np.ones(9, dtype=int), 2, "repeat_real"), "needs real and fake"),
    ],
)
def test_what_cannot_be_sampled_is_said(arguments, message):
    with pytest.raises(TokdError, match=message):
        TrainingBatches(*arguments)


def test_one_kind_alone_can_be_sampled_unbalanced():
    assert len(epoch(TrainingBatches(np.ones(9, dtype=int), 3))) == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))
def test_evaluation_takes_every_row_once_in_as_many_batches_everywhere(length, batch, world):
    parts = [list(EvaluationBatches(EveryNth(length, r, world), batch)) for r in range(world)]
    assert sorted(row for part in parts for rows in part for row in rows) == list(range(length))
    assert len({len(part) for part in parts}) == 1
    assert all(len(rows) <= batch for part in parts for rows in part)
    assert len(parts[0]) == len(EvaluationBatches(EveryNth(length, 0, world), batch))


def test_one_process_evaluates_in_order():
    assert list(EvaluationBatches(EveryNth(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
