"""The learning rate at given steps, by hand."""

import pytest

from ssnm.engine.schedule import Schedule


def test_the_papers_rate_halves_every_25000_steps():
    schedule = Schedule("halving", 200_000)
    golden = {0: 1, 24_999: 1, 25_000: 1 / 2, 49_999: 1 / 2, 50_000: 1 / 4, 199_999: 1 / 128}
    assert {step: schedule.factor(step) for step in golden} == golden


def test_cosine_goes_from_one_to_zero_through_one_half():
    schedule = Schedule("cosine", 100)
    assert [round(schedule.factor(s), 6) for s in (0, 25, 50, 75, 100, 120)] == [1, 0.853553, 0.5, 0.146447, 0, 0]


def test_constant_is_constant():
    assert {Schedule("constant", 10).factor(s) for s in range(20)} == {1.0}


@pytest.mark.parametrize("name", ["halving", "cosine", "constant"])
def test_warmup_rises_in_equal_steps_and_never_starts_at_zero(name):
    schedule = Schedule(name, 100, every=50, warmup=4)
    assert [schedule.factor(s) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_reaches_zero_at_the_last_step_whatever_the_warmup():
    assert Schedule("cosine", 100, warmup=20).factor(60) == pytest.approx(0.5)
    assert Schedule("cosine", 100, warmup=20).factor(100) == pytest.approx(0)


def test_a_warmup_as_long_as_the_run_is_no_division_by_zero():
    assert Schedule("cosine", 10, warmup=10).factor(10) == 1.0
