"""What repeats the release's training: losses, weight decay, optimiser rebuilt at each halving, union-first masks."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssnm.config.loading import config_to_dict
from ssnm.coseg import build as factory
from ssnm.coseg.config import Config, LossConfig, TrainConfig, config_from_dict
from ssnm.coseg.groups import GroupDataset
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.records import GroupBatch, Modulation, SSNMOutput
from ssnm.coseg.release.losses import ReleaseCriterion
from ssnm.coseg.release.union_first import UnionFirstDataset
from ssnm.coseg.sampler import GroupDraw, Slot
from ssnm.data.coco import CocoSegSource
from ssnm.data.coco_index import write_index
from ssnm.data.coco_seg import build_index
from ssnm.engine.loop import LoopOptions, TrainState, train
from ssnm.engine.runs import build_schedule
from ssnm.engine.schedule import Schedule
from ssnm.errors import ConfigError
from ssnm.methods import load_config

RELEASE_YAML = Path(__file__).parents[3] / "configs" / "ssnm_vgg16_release.yaml"


# --- losses


def two_pixel_batch() -> GroupBatch:
    """Two images of two pixels; 1 of 4 pixels is positive."""
    masks = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 2, 1, 2)
    labels = torch.tensor([[1.0, 0.0]])
    valid, grey = torch.ones_like(masks).bool(), torch.zeros(1, 2).bool()
    return GroupBatch(torch.zeros(1, 2, 3, 1, 2), masks, labels, valid, grey)


def output(probabilities: list[float], categories: list[float]) -> SSNMOutput:
    logits = torch.logit(torch.tensor(probabilities)).view(1, 2, 1, 2)
    return SSNMOutput(logits, Modulation(category_logits=torch.logit(torch.tensor([categories]))))


def test_the_three_losses_on_four_pixels_by_hand():
    losses = ReleaseCriterion()(output([0.5, 0.5, 0.25, 0.5], [0.5, 0.25]), two_pixel_batch())
    log = math.log
    # share of positives in the batch: 1/4; positives weigh 1/4, negatives 3/4; mean over 4 pixels
    seg = (0.25 * log(2) + 0.75 * (log(2) - log(0.75) + log(2))) / 4
    smooth_l1 = (0.5**2 + 0.5**2 + 0.25**2 + 0.5**2) / 2 / 4
    sem = (log(2) - log(0.75)) / 2
    assert losses["seg"].item() == pytest.approx(seg)
    assert losses["smooth_l1"].item() == pytest.approx(smooth_l1)
    assert losses["sem"].item() == pytest.approx(sem)
    assert losses["total"].item() == pytest.approx(seg + smooth_l1 + sem)


def test_void_pixels_do_not_count():
    batch = two_pixel_batch()
    kept = torch.tensor([True, True, True, False]).view(1, 2, 1, 2)
    some = ReleaseCriterion()(output([0.5, 0.5, 0.25, 0.1], [0.5, 0.5]), dataclasses.replace(batch, valid=kept))
    other = ReleaseCriterion()(output([0.5, 0.5, 0.25, 0.9], [0.5, 0.5]), dataclasses.replace(batch, valid=kept))
    assert some["total"] == other["total"]


# --- optimiser and schedule


class Line(nn.Module):
    """The smallest model with the two parameter groups of the factory."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.rest = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rest(self.backbone(images).tanh())


@dataclasses.dataclass(frozen=True)
class LineBatch:
    images: torch.Tensor
    num_images: int = 4


def batches(start: int):
    """The batch of a step is a function of the step, as the sampler's are."""
    step = start
    while True:
        yield LineBatch(torch.randn(4, 3, generator=torch.Generator().manual_seed(step)))
        step += 1


def release_train(**changes) -> TrainConfig:
    train_config = load_config(RELEASE_YAML).train
    schedule = dataclasses.replace(train_config.schedule, **{"every": 3, "reset_every": 3} | changes)
    return dataclasses.replace(train_config, steps=10, lr=0.1, weight_decay=1e-2, schedule=schedule)


def run_line(config: TrainConfig, stop: int, resume: dict | None = None) -> TrainState:
    model = Line()
    state = TrainState(model, factory.build_optimizer(model, config), build_schedule(config))
    if resume is not None:
        state.load_state_dict(resume)
    train(
        state,
        batches(state.step),
        lambda batch: model(batch.images),
        lambda out, batch: {"total": (out - batch.images[:, :1]).square().mean()},
        LoopOptions(steps=stop),
    )
    return state


def test_training_across_rebuilds_equals_a_new_adam_at_each_halving():
    """The release's way, literally: half the rate, a new optimiser, moments lost; L2 inside the gradient."""
    model = Line()
    for step, batch in zip(range(10), batches(0)):
        if step % 3 == 0:
            optimizer = torch.optim.Adam(model.parameters(), lr=0.1 / 2 ** (step // 3), weight_decay=1e-2)
        optimizer.zero_grad()
        (model(batch.images) - batch.images[:, :1]).square().mean().backward()
        optimizer.step()
    ours = run_line(release_train(), 10).model
    for expected, got in zip(model.parameters(), ours.parameters()):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    kept_moments = run_line(release_train(reset_every=0), 10).model
    assert not torch.allclose(kept_moments.rest.weight, ours.rest.weight, atol=1e-3)


@pytest.mark.parametrize("stop", [2, 3, 4, 6, 8])
def test_a_run_interrupted_around_a_rebuild_equals_the_uninterrupted_one_bit_for_bit(stop, tmp_path):
    whole = run_line(release_train(), 10)
    torch.save(run_line(release_train(), stop).state_dict(), tmp_path / "last.pt")
    resumed = run_line(release_train(), 10, torch.load(tmp_path / "last.pt", weights_only=True))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)
    first, second = whole.optimizer.state_dict()["state"], resumed.optimizer.state_dict()["state"]
    assert all(torch.equal(first[i][k], second[i][k]) for i in first for k in first[i])


def test_only_the_first_step_after_a_halving_rebuilds_and_only_where_asked_for():
    schedule = Schedule("halving", 100, every=10, reset_every=10)
    assert [step for step in range(35) if schedule.resets_optimizer(step)] == [10, 20, 30]
    assert not any(Schedule("halving", 100, every=10).resets_optimizer(step) for step in range(35))


def test_weight_decay_is_coupled_only_on_request():
    model = Line()
    assert isinstance(factory.build_optimizer(model, TrainConfig(weight_decay=1e-2)), torch.optim.AdamW)
    coupled = factory.build_optimizer(model, TrainConfig(weight_decay=1e-2, weight_decay_type="coupled"))
    assert type(coupled) is torch.optim.Adam and coupled.param_groups[0]["weight_decay"] == 1e-2


# --- configuration


def test_the_release_config_states_the_release_s_numbers():
    config = load_config(RELEASE_YAML)
    t = config.train
    assert (t.steps, t.batch_groups, t.lr, t.weight_decay, t.weight_decay_type) == (100_000, 4, 1e-5, 1e-6, "coupled")
    assert (t.schedule.name, t.schedule.every, t.schedule.reset_every) == ("halving", 20_000, 20_000)
    assert (config.data.group_size, config.data.size, config.data.balance) == (5, 224, "uniform")
    assert config.data.augmentation.flip == 0 and config.data.augmentation.crop == 1
    assert isinstance(factory.build_criterion(config.loss), ReleaseCriterion)
    assert config_from_dict(config_to_dict(config)) == config


def test_a_config_without_tags_is_the_paper_s_variant():
    assert config_from_dict({"model": {"dim": 8}, "loss": {"sem": 0.5}}).loss == LossConfig(sem=0.5)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"model": {"name": "ssnm2"}}, "model.name must be one of ssnm, ssnm_release, got 'ssnm2'"),
        ({"model": {"name": "ssnm_release", "dim": 8}}, "unknown key 'model.dim'"),
        ({"loss": {"type": "release", "spa": 1}}, "unknown key 'loss.spa'"),
        ({"model": {"name": "ssnm_release"}, "data": {"group_size": 4}}, "size=224, got 4 and 224"),
        ({"data": {"union_at_full_size": True, "sources": [{"type": "procedural"}]}}, "only, got procedural"),
        ({"data": {"union_at_full_size": True, "cache": "memory"}}, "set data.cache to none"),
        ({"data": {"union_at_full_size": True, "mix": {"pasted": 0.5}}}, "data.mix.distractor to 0"),
    ],
)
def test_combinations_that_cannot_be_are_refused(mapping, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(mapping)


def test_the_loop_passes_on_which_images_are_grey_to_a_model_that_asks():
    class Asking(nn.Module):
        takes_grey = True

        def forward(self, images, grey):
            return grey

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Asking()

        def forward(self, *arguments):
            return self.module(*arguments)

    batch = two_pixel_batch()
    assert factory.group_forward(Asking())(batch) is batch.grey
    assert factory.group_forward(Wrapped())(batch) is batch.grey
    assert factory.group_forward(nn.Identity())(batch) is batch.images


# --- masks


@pytest.fixture
def shared_cells(tmp_path) -> ImagePool:
    """Two 10x10 images that show a person and a car, 40 % of the only training cell each, plus a dog in the first."""
    boxes = [(1, 1, 0, 4), (1, 3, 6, 10), (2, 1, 0, 4), (2, 3, 6, 10), (1, 4, 4, 6)]
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 10, "height": 10} for i in (1, 2)],
        "categories": [{"id": i, "name": n} for i, n in ((1, "person"), (3, "car"), (4, "dog"))],
        "annotations": [
            {"image_id": i, "category_id": c, "area": 10 * (x1 - x0), "segmentation": [[x0, 0, x1, 0, x1, 10, x0, 10]]}
            for i, c, x0, x1 in boxes
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    write_index(build_index(tmp_path / "instances.json", min_area=10, min_images=1), tmp_path / "index.json")
    for i in (1, 2):
        Image.fromarray(np.full((10, 10), 100, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return ImagePool([CocoSegSource(tmp_path / "index.json", tmp_path)])


def test_union_first_masks_hold_a_pixel_that_two_shared_objects_cover_together(shared_cells):
    draw = GroupDraw("person", (Slot(0, 0), Slot(1, 0)))
    group = UnionFirstDataset(shared_cells, (1, 1))[draw]
    assert group.masks.flatten().tolist() == [True, True]
    assert dict(zip(shared_cells.labels, group.labels.tolist())) == {"car": 1.0, "dog": 0.0, "person": 1.0}
    assert group.grey.tolist() == [True, True] and group.valid.all()
    assert GroupDataset(shared_cells, (1, 1))[draw].masks.flatten().tolist() == [False, False]


def test_objects_of_categories_that_are_not_shared_stay_out_of_the_union(shared_cells):
    sample = shared_cells.load_union(0, {"person", "car"}, (10, 10))
    assert sample.masks.shape == (1, 10, 10)
    assert sample.masks[0, 0].tolist() == [True] * 4 + [False] * 2 + [True] * 4


def test_at_full_size_both_rules_agree(shared_cells):
    draw = GroupDraw("car", (Slot(0, 0), Slot(1, 0)))
    first, second = (cls(shared_cells, (10, 10))[draw] for cls in (UnionFirstDataset, GroupDataset))
    assert torch.equal(first.masks, second.masks) and torch.equal(first.labels, second.labels)


def test_the_four_categories_of_a_batch_are_distinct_and_uniform():
    from ssnm.coseg.sampler import GroupDrawer
    from ssnm.data.procedural import ProceduralSource
    from ssnm.data.procedural_kinds import SEEN_KINDS

    pool = ImagePool([ProceduralSource(SEEN_KINDS, 200, seed=0)])
    drawer = GroupDrawer(pool, 5, Config().data.balance)
    rng = np.random.default_rng(0)
    drawn = [[d.category for d in drawer.draw(rng, 4)] for _ in range(500)]
    assert all(len(set(categories)) == 4 for categories in drawn)
    counts = np.array([sum(c in d for d in drawn) for c in drawer.categories])
    expected = 500 * 4 / len(counts)
    assert abs(counts - expected).max() < 5 * expected**0.5
