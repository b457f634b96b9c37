"""The learning rate's course against torch's own schedulers."""

import pytest
import torch
from torch.optim import lr_scheduler

from edge_agent.training.schedule import SCHEDULES, factor_of, warmup_of


def factors(steps, schedule, warmup):
    return [factor_of(step, steps, schedule, warmup) for step in range(1, steps + 1)]


def torchs(steps, schedule, warmup):
    """Return the rates that torch's schedulers set, the rise first."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    down = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0, total_iters=1),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps - warmup),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup),
    }[schedule]
    found = []
    if warmup:
        rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, total_iters=warmup)
        for _ in range(warmup):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            rise.step()
        optimizer.param_groups[0]["initial_lr"] = optimizer.param_groups[0]["lr"] = 1.0
    scheduler = down()
    for _ in range(steps - warmup):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("steps", "warmup"), [(10, 0), (10, 3), (4, 1), (1, 0)])
def test_it_is_torchs(schedule, steps, warmup):
    assert factors(steps, schedule, warmup) == pytest.approx(torchs(steps, schedule, warmup))


def test_a_rise_over_three_and_a_line_over_four_steps_by_hand():
    assert factors(7, "linear", 3) == [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]


def test_half_a_cosine_over_four_steps_by_hand():
    # (1 + cos x) / 2 at 0, 45, 90 and 135 degrees.
    assert factors(4, "cosine", 0) == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "steps", "expected"),
    [(None, 20, 3), (None, 8, 2), (None, 3, 0), (0, 20, 0), (5, 20, 5), (20, 20, 19), (9, 1, 0)],
)
def test_a_device_with_few_steps_still_gets_to_the_whole_rate(asked, steps, expected):
    warmup = warmup_of(asked, steps)
    assert warmup == expected
    assert max(factors(steps, "constant", warmup)) == 1.0
