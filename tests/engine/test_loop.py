"""The training loop: accumulation, averages, exact resume, signals, what is logged and saved when."""

import copy
import os
import signal
import time
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from ssnm.engine.checkpoint import load_training, save_training
from ssnm.engine.loop import (
    LoopOptions,
    NonFiniteLoss,
    TrainState,
    make_ema,
    make_scaler,
    stop_on_signal,
    train,
    train_step,
)
from ssnm.engine.schedule import Schedule

STEPS = 6


@dataclass
class Points:
    """A batch of another task: the loop asks for `images` and `num_images` only."""

    images: torch.Tensor
    wanted: torch.Tensor

    @property
    def num_images(self) -> int:
        return len(self.images)


def points(step: int, count: int = 8) -> Points:
    generator = torch.Generator().manual_seed(step)
    return Points(torch.randn(count, 4, generator=generator), torch.randn(count, 2, generator=generator))


def squared_error(output: torch.Tensor, batch: Points) -> dict[str, torch.Tensor]:
    error = (output - batch.wanted).square().mean()
    return {"total": 2 * error, "error": error}


def state_of(model: nn.Module, optimizer=torch.optim.SGD, ema: float = 0.0, schedule: Schedule | None = None, lr=0.1):
    groups = [{"params": list(model.parameters()), "lr": lr, "base_lr": lr}]
    schedule = schedule or Schedule("constant", STEPS)
    return TrainState(model, optimizer(groups, lr=lr), schedule, ema=make_ema(model, ema))


def linear_state(**options) -> TrainState:
    torch.manual_seed(1)
    return state_of(nn.Linear(4, 2), **options)


def random_state(**options) -> TrainState:
    """A model with batch norm and dropout under Adam: everything that a resumed run has to restore."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    return state_of(model, torch.optim.Adam, ema=0.9, schedule=Schedule("cosine", STEPS, warmup=2), **options)


def forward_of(state: TrainState):
    return lambda batch: state.model(batch.images)


def run(
    state: TrainState, batches=None, steps: int = STEPS, on_log=None, evaluate=None, save=None, loss_fn=None, **options
) -> bool:
    return train(
        state,
        (points(s) for s in range(state.step, steps)) if batches is None else batches,
        forward_of(state),
        loss_fn or squared_error,
        LoopOptions(steps=steps, **options),
        on_log=on_log or (lambda row: None),
        evaluate=evaluate,
        save=save or (lambda state: None),
    )


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def differing(one: dict, other: dict) -> list[str]:
    assert one.keys() == other.keys()
    return [k for k in one if not torch.equal(one[k], other[k])]


# One step


def test_a_step_follows_the_gradient_of_the_total_at_the_scheduled_rate():
    state = linear_state(schedule=Schedule("halving", 10, every=1), lr=0.5)
    for step, rate in enumerate((0.5, 0.25, 0.125)):
        reference, batch = copy.deepcopy(state.model), points(step)
        total = squared_error(reference(batch.images), batch)["total"]
        total.backward()
        losses = train_step(forward_of(state), squared_error, [batch], state, LoopOptions(10))
        wanted = reference.weight.detach() - rate * reference.weight.grad
        torch.testing.assert_close(state.model.weight.detach(), wanted)
        assert float(losses["total"]) == pytest.approx(total.item()) and not losses["error"].requires_grad
        assert state.step == step + 1


def test_the_scales_of_parameter_groups_are_kept():
    model = nn.Linear(4, 2)
    groups = [{"params": [p], "lr": lr, "base_lr": lr} for p, lr in zip(model.parameters(), (1.0, 0.1))]
    state = TrainState(model, torch.optim.SGD(groups), Schedule("halving", 10, every=1), step=2)
    train_step(forward_of(state), squared_error, [points(0)], state, LoopOptions(10))
    assert [g["lr"] for g in state.optimizer.param_groups] == [0.25, 0.025]


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_micro_batches_equal_the_larger_batch(parts):
    whole, split = linear_state(), linear_state()
    for step in range(3):
        batch = points(step)
        micro = [Points(i, w) for i, w in zip(batch.images.chunk(parts), batch.wanted.chunk(parts))]
        one = train_step(forward_of(whole), squared_error, [batch], whole, LoopOptions(STEPS))
        many = train_step(forward_of(split), squared_error, micro, split, LoopOptions(STEPS))
        torch.testing.assert_close(one, many)
    torch.testing.assert_close(whole.model.state_dict(), split.model.state_dict())


def test_clipping_bounds_the_length_of_the_gradient():
    state = linear_state(lr=1.0)
    before = copy_of(state.model)
    train_step(forward_of(state), squared_error, [points(0)], state, LoopOptions(STEPS, clip_norm=0.01))
    moved = torch.cat([(v - before[k]).flatten() for k, v in state.model.state_dict().items()])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_moving_average_is_its_formula_from_the_first_step_on():
    state = linear_state(ema=0.8)
    average = None
    for step in range(5):
        train_step(forward_of(state), squared_error, [points(step)], state, LoopOptions(STEPS))
        weight = state.model.weight.detach().clone()
        average = weight if average is None else 0.8 * average + 0.2 * weight
        torch.testing.assert_close(state.averaged().weight.detach(), average)
    assert (state.averaged().weight - state.model.weight).abs().max() > 1e-3


def test_the_moving_average_covers_the_statistics_of_batch_norm():
    state = random_state()
    for step in range(4):
        train_step(forward_of(state), squared_error, [points(step)], state, LoopOptions(STEPS))
    averaged, plain = state.averaged()[1].running_mean, state.model[1].running_mean
    assert (averaged - plain).abs().max() > 1e-3 and averaged.abs().max() > 1e-3


def test_without_an_average_the_model_itself_is_evaluated():
    state = linear_state()
    assert state.averaged() is state.model and make_ema(state.model, 0.0) is None


def test_bfloat16_keeps_weights_and_losses_in_float32():
    state = linear_state()
    seen = []
    forward = forward_of(state)
    losses = train_step(
        lambda batch: seen.append(forward(batch)) or seen[-1].float(), squared_error, [points(0)], state,
        LoopOptions(STEPS, precision="bf16"),
    )
    assert seen[0].dtype == torch.bfloat16
    assert losses["total"].dtype == state.model.weight.dtype == torch.float32


def float16_state(scale: float, **options) -> TrainState:
    state = linear_state(**options)
    state.scaler = make_scaler("fp16", torch.device("cpu"))
    assert state.scaler.is_enabled() and not make_scaler("bf16", torch.device("cpu")).is_enabled()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return state


def test_float16_scales_the_loss_and_steps_by_the_unscaled_gradient():
    plain, scaled = linear_state(lr=0.1), float16_state(2.0**7, lr=0.1)
    seen = []
    for state, precision in ((plain, "fp32"), (scaled, "fp16")):
        forward = forward_of(state)
        train_step(lambda batch: seen.append(forward(batch)) or seen[-1].float(), squared_error, [points(0)], state,
                   LoopOptions(STEPS, precision=precision, clip_norm=0.01))  # fmt: skip
    assert [output.dtype for output in seen] == [torch.float32, torch.float16]
    assert scaled.scaler.get_scale() == 2.0**7 and not plain.scaler.is_enabled()
    torch.testing.assert_close(scaled.model.weight, plain.model.weight, rtol=0, atol=1e-4)


def test_a_step_whose_gradient_overflows_float16_is_left_out_and_halves_the_scale():
    state = float16_state(2.0**16, lr=0.1)
    before = copy_of(state.model)
    overflowing = lambda output, batch: {"total": 1e36 * output.float().square().mean()}  # noqa: E731
    train_step(forward_of(state), overflowing, [points(0)], state, LoopOptions(STEPS, precision="fp16"))
    assert differing(before, state.model.state_dict()) == [] and state.scaler.get_scale() == 2.0**15
    assert state.step == 1


def test_gradients_that_overflow_at_every_scale_stop_the_run():
    state = float16_state(2.0**16, lr=0.1)
    endless = lambda output, batch: {"total": 1e38 * output.float().square().mean()}  # noqa: E731
    with pytest.raises(NonFiniteLoss, match="overflow float16"):
        train(state, map(points, range(60)), forward_of(state), endless,
              LoopOptions(60, precision="fp16", log_every=20))  # fmt: skip


def test_the_scale_of_float16_survives_a_checkpoint(tmp_path):
    state, again = float16_state(2.0**7), float16_state(2.0**16)
    torch.save(state.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.scaler.get_scale() == 2.0**7
    again.load_state_dict({k: v for k, v in linear_state().state_dict().items() if k != "scaler"})  # an older one


@pytest.mark.parametrize("where", ["weight", "buffer", "average"])
def test_weights_that_are_no_numbers_are_not_evaluated(where):
    """They would be scored, and could be saved as the best."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    groups = [{"params": list(model.parameters()), "lr": 0.1, "base_lr": 0.1}]
    state = TrainState(model, torch.optim.SGD(groups), Schedule("constant", 9), ema=make_ema(model, 0.5))
    state.ema.n_averaged = 1  # the first update would be a copy

    def spoil(output, batch):
        places = {"weight": model[0].bias, "buffer": model[1].running_mean, "average": state.ema.module[0].weight}
        with torch.no_grad():
            places[where].fill_(float("nan"))
        return {"total": output.detach().square().mean().requires_grad_()}

    with pytest.raises(NonFiniteLoss, match="weights that are not finite"):
        run(state, loss_fn=spoil, evaluate_every=1, evaluate=lambda state: pytest.fail("evaluated"))


def test_a_rebuilt_optimiser_forgets_its_moments_at_each_halving():
    def second_step(rebuild: bool) -> torch.Tensor:
        schedule = Schedule("halving", 4, every=1, reset_every=int(rebuild))
        state = linear_state(optimizer=torch.optim.Adam, schedule=schedule)
        for step in range(2):
            train_step(forward_of(state), squared_error, [points(step)], state, LoopOptions(4))
        return state.optimizer.state[state.model.weight]["step"]

    assert second_step(False) == 2 and second_step(True) == 1


# Resume


class Killed(Exception):
    pass


def killed_at(step: int):
    for s in range(STEPS):
        if s == step:
            raise Killed
        yield points(s)


@pytest.mark.parametrize("at", range(1, STEPS))
def test_a_resumed_run_ends_bit_identical_to_an_uninterrupted_one(tmp_path, at):
    straight = random_state()
    run(straight)
    first = random_state()
    with pytest.raises(Killed):  # a checkpoint after every step, then death
        run(first, killed_at(at), checkpoint_minutes=0, save=lambda s: save_training(tmp_path / "l.pt", s.state_dict()))
    second = random_state(lr=0.1)
    torch.manual_seed(99)  # another process: other random numbers until the state is loaded
    second.load_state_dict(load_training(tmp_path / "l.pt"))
    assert second.step == at
    assert run(second) is True
    assert differing(copy_of(straight.model), copy_of(second.model)) == []
    assert differing(copy_of(straight.ema.module), copy_of(second.ema.module)) == []


def test_best_scores_and_step_are_part_of_the_state():
    state = linear_state()
    run(state)
    state.best = {"step": 4, "J": 0.5}
    other = linear_state()
    other.load_state_dict(copy.deepcopy(state.state_dict()))
    assert (other.step, other.best) == (STEPS, {"step": 4, "J": 0.5})


# Signals


def signalled_at(step: int, number: int):
    for s in range(STEPS):
        if s == step:
            os.kill(os.getpid(), number)
        yield points(s)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_and_saves(number, capfd):
    state, saved = linear_state(), []
    finished = run(state, signalled_at(2, number), save=lambda s: saved.append(s.step))
    assert finished is False and state.step == 3 and saved == [3]
    assert f"{number.name}: stops after this step or validation; once more" in capfd.readouterr().err


def test_a_signal_during_the_last_step_is_a_finished_run_and_is_said_to_be_one(capfd):
    state, saved = linear_state(), []
    assert run(state, signalled_at(STEPS - 1, signal.SIGTERM), save=lambda s: saved.append(s.step)) is True
    assert saved == [STEPS] and "SIGTERM: goes on, this is the last step; once more" in capfd.readouterr().err


def test_a_second_signal_interrupts_at_once():
    def impatient():
        yield points(0)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was ignored")

    with pytest.raises(KeyboardInterrupt):
        run(linear_state(), impatient())


def test_handlers_are_put_back_whatever_happens():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Killed):
        with stop_on_signal():
            raise Killed
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


# What happens when


def test_evaluation_and_checkpoints_come_at_their_interval_and_at_the_end():
    evaluated, saved = [], []
    state = linear_state()
    assert run(state, steps=5, evaluate_every=2, evaluate=lambda s: evaluated.append(s.step),
               save=lambda s: saved.append(s.step)) is True
    assert evaluated == [2, 4, 5] and saved == [2, 4, 5]


def test_the_model_is_evaluated_in_eval_mode_and_trained_in_training_mode():
    state, modes = random_state(), []
    run(state, evaluate_every=2, evaluate=lambda s: modes.append(s.model.training))
    assert modes == [False] * 3 and state.model.training


def test_the_time_interval_of_checkpoints_is_kept():
    saved = []
    run(linear_state(), checkpoint_minutes=0.0, save=lambda s: saved.append(s.step))
    assert saved == list(range(1, STEPS + 1))


def test_a_run_that_is_already_finished_does_nothing():
    state = linear_state()
    state.step = STEPS
    before = copy_of(state.model)
    assert run(state, iter(()), save=lambda s: pytest.fail("saved")) is True
    assert differing(before, copy_of(state.model)) == []


def test_a_row_holds_the_means_since_the_last_row():
    rows, losses = [], []
    state = linear_state()
    for s in range(4):
        losses.append(float(train_step(forward_of(state), squared_error, [points(s)], state, LoopOptions(4))["total"]))
    run(linear_state(), steps=4, log_every=2, on_log=rows.append)
    assert [row["step"] for row in rows] == [2, 4]
    wanted = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    assert [row["loss/total"] for row in rows] == pytest.approx(wanted)
    assert all(row["loss/error"] == pytest.approx(row["loss/total"] / 2) and row["lr"] == 0.1 for row in rows)


def test_speed_and_waiting_are_measured():
    def slow():
        for s in range(2):
            time.sleep(0.05)
            yield points(s)

    rows = []
    run(linear_state(), slow(), steps=2, log_every=2, on_log=rows.append)
    assert rows[0]["data_wait"] > 0.7 and rows[0]["step_s"] >= 0.05
    assert rows[0]["images_per_s"] == pytest.approx(8 / rows[0]["step_s"])


# Losses that are no number


def broken_at(step: int, value: float):
    for s in range(STEPS):
        batch = points(s)
        if s == step:
            batch.wanted[0, 0] = value
        yield batch


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_with_its_batch(value):
    with pytest.raises(NonFiniteLoss, match="loss of step 3 is not finite") as error:
        run(linear_state(), broken_at(3, value), log_every=1)
    assert error.value.step == 3 and not error.value.batch[0].wanted.isfinite().all()


@pytest.mark.parametrize("options", [dict(checkpoint_minutes=0.0), dict(evaluate_every=2), {}])
def test_weights_that_are_no_numbers_are_never_saved(options):
    saved = []
    with pytest.raises(NonFiniteLoss):
        run(linear_state(), broken_at(3, float("nan")), log_every=100, save=lambda s: saved.append(copy_of(s.model)),
            evaluate=lambda s: None, **options)
    assert all(v.isfinite().all() for weights in saved for v in weights.values())
