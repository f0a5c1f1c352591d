"""Exact resume of the whole network on augmented groups; tests/engine/test_loop.py has the loop alone."""

import pytest
import torch

from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.losses import CosegCriterion
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDrawer, GroupMix, StepSampler
from ssnm.data.augment import Augmentation
from ssnm.data.procedural import ProceduralSource
from ssnm.engine.checkpoint import load_training, save_training
from ssnm.engine.loop import LoopOptions, TrainState, make_ema, train
from ssnm.engine.schedule import Schedule


def differing(one: torch.nn.Module, other: torch.nn.Module) -> list[str]:
    there = other.state_dict()
    return [k for k, v in one.state_dict().items() if not torch.equal(v, there[k])]


@pytest.fixture(scope="module")
def groups_from():
    """Batches of augmented procedural groups from a given step on."""
    pool = ImagePool([ProceduralSource(num_images=40)])
    dataset = GroupDataset(pool, (32, 32), Augmentation(0.5, 0.6, 0.7, 0.2, 0.1))
    drawer = GroupDrawer(pool, 2, mix=GroupMix(0.3, 0.3, 0.3))

    def batches(step: int):
        for draws in StepSampler(drawer, 2, seed=3, start=step, stop=4):
            yield collate_groups([dataset[d] for d in draws]).to("cpu")

    return batches


def test_the_whole_network_resumes_bit_identical(tmp_path, tiny_model, groups_from):
    def network() -> TrainState:
        model = tiny_model(num_categories=len(ProceduralSource(num_images=1).categories)).train()
        groups = [{"params": list(model.parameters()), "lr": 1e-3, "base_lr": 1e-3}]
        return TrainState(model, torch.optim.Adam(groups), Schedule("cosine", 4, warmup=1), ema=make_ema(model, 0.9))

    def go_on(state: TrainState, **options) -> bool:
        return train(
            state, groups_from(state.step), lambda b: state.model(b.images), CosegCriterion(dice=1.0),
            LoopOptions(4, clip_norm=1.0, checkpoint_minutes=0), **options,
        )

    straight, first, second = network(), network(), network()
    go_on(straight)

    def save_once(state: TrainState) -> None:
        if state.step == 2:
            save_training(tmp_path / "last.pt", state.state_dict())

    go_on(first, save=save_once)
    second.load_state_dict(load_training(tmp_path / "last.pt"))
    go_on(second)
    assert differing(straight.model, second.model) == []
    assert differing(straight.averaged(), second.averaged()) == []
