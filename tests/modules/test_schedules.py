"""The learning rate that is constant and then falls to the end of the run."""

import pytest
import torch

from tokd_lightning.modules.schedules import LateLinearLR


def test_the_rate_is_constant_and_falls_linearly_in_the_last_quarter():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
    schedule, rates = LateLinearLR(optimizer, start=6, total=8), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.2] * 7 + [0.1, 0.0, 0.0])


def test_a_resumed_schedule_goes_on():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = LateLinearLR(optimizer, 1, 5)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    state, other = schedule.state_dict(), torch.optim.SGD([torch.zeros(1)], lr=1.0)
    again = LateLinearLR(other, 1, 5)
    again.load_state_dict(state)
    for one, scheduler in ((optimizer, schedule), (other, again)):
        one.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(("start", "total"), [(4, 4), (-1, 4)])
def test_a_start_outside_the_run_raises(start, total):
    with pytest.raises(ValueError, match="start must be from 0 to total - 1, 3"):
        LateLinearLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), start, total)
