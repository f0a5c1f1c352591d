"""The small network: any backbone and size, what objects share, modulators switched off, checks 30 and 31."""

import numpy as np
import pytest
import torch
from torch import nn

from ssnm.nn.backbones import Backbone
from ssnm.video.guides import VisualDraw, gaussian_guide, visual_guide
from ssnm.video.losses import VideoCriterion
from ssnm.video.records import VideoBatch
from ssnm.video.settings import Settings
from ssnm.video.small import SmallOSMN
from ssnm.video.validation import SwitchedOff, Validator, held_out_videos


def network(name="resnet18", strides=(4, 8), **options):
    torch.manual_seed(0)
    return SmallOSMN(Backbone(name, strides=strides), **{"dim": 16, "hidden": 32, **options}).eval()


@pytest.mark.parametrize("size", [(64, 64), (45, 80), (33, 51)])
def test_any_image_size_gives_logits_of_that_size(size):
    model = network()
    with torch.no_grad():
        scales = model.scales(torch.rand(3, 3, 40, 40), torch.ones(3, 40, 40))
        assert scales.shape == (3, 2 * 2 * 16)
        assert model.segment(torch.rand(1, 3, *size), torch.rand(3, *size), scales).shape == (3, *size)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_b0", "vgg11_bn"])
def test_any_backbone_with_levels_will_do(name):
    model = network(name, (4, 8, 16, 32))
    with torch.no_grad():
        scales = model.scales(torch.rand(1, 3, 64, 64), torch.ones(1, 64, 64))
        assert model.segment(torch.rand(1, 3, 64, 64), torch.rand(1, 64, 64), scales).shape == (1, 64, 64)


def test_a_fresh_network_scales_by_one_and_hardly_shifts():
    model = network()
    with torch.no_grad():
        scales = model.scales(torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32))
        assert torch.equal(scales, torch.ones_like(scales))
        image, guide = torch.rand(1, 3, 32, 32), torch.rand(1, 32, 32)
        difference = model.segment(image, guide, None) - model.segment(image, None, None)
    assert 0 < difference.abs().max() < 0.01


def test_one_backbone_is_held_once_and_two_are_two():
    shared, apart = network(), network(visual_backbone=Backbone("resnet18", strides=(4, 8)))
    assert not any(k.startswith("visual_backbone") for k in shared.state_dict())
    more = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in shared.parameters())
    assert more == sum(p.numel() for p in shared.backbone.parameters())


def test_the_backbone_sees_a_frame_once_for_all_objects():
    model, seen = network(), []
    model.backbone.register_forward_hook(lambda m, i, o: seen.append(i[0].shape[0]))
    image, guides, scales = torch.rand(1, 3, 32, 32), torch.rand(4, 32, 32), 1 + 0.1 * torch.randn(4, 64)
    with torch.no_grad():
        together = model.segment(image, guides, scales)
        alone = torch.cat([model.segment(image, guides[k : k + 1], scales[k : k + 1]) for k in range(4)])
    assert seen == [1] * 5
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_what_lies_outside_the_object_s_mask_does_not_change_its_scales():
    model = network()
    torch.nn.init.normal_(model.visual.scale.weight)
    guide, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    other = torch.where(mask[:, None] > 0, guide, torch.rand(1, 3, 32, 32))
    with torch.no_grad():
        assert torch.equal(model.scales(guide, mask), model.scales(other, mask))
        assert not torch.allclose(model.scales(guide, mask), model.scales(guide.flip(1), mask))


def test_without_a_modulator_it_is_not_there_and_an_empty_guide_is_no_error():
    bare = network(visual=False, spatial=False)
    with torch.no_grad():
        assert bare.scales(torch.rand(1, 3, 32, 32), torch.ones(1, 32, 32)) is None
        assert bare.segment(torch.rand(1, 3, 32, 32), torch.rand(1, 32, 32), None).isfinite().all()
        scales = network().scales(torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32))
    assert scales.isfinite().all()


def test_switched_off_means_scale_one_or_shift_zero():
    model = network()
    image, guides, scales = torch.rand(1, 3, 32, 32), torch.rand(2, 32, 32), torch.rand(2, 64)
    with torch.no_grad():
        assert SwitchedOff(model, visual=True).scales(torch.rand(1, 3, 32, 32), torch.ones(1, 32, 32)) is None
        found = SwitchedOff(model, spatial=True).segment(image, guides, scales)
        assert torch.equal(found, model.segment(image, None, scales)) and found.shape == (2, 32, 32)
        assert SwitchedOff(model, True, True).segment(image, guides, None).shape == (2, 32, 32)


# --- Checks 30 and 31: each modulator does what it is for -----------------------------------------------------------

SIDE, STEPS = 48, 160
CENTRES = [(12, 12), (12, 36), (36, 12), (36, 36)]
COLOURS = np.array([(220, 40, 40), (40, 200, 60), (60, 80, 230), (230, 210, 60)], np.uint8)


def disc(centre, radius=10):
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def scene(centres, colours):
    image = np.full((SIDE, SIDE, 3), 110, np.uint8)
    for centre, colour in zip(centres, colours):
        image[disc(centre)] = COLOURS[colour]
    return image


def sample(rng, twins):
    """Two discs, of which the first is meant. Twins differ by place alone, and the Gaussian tells; discs of two colours
    come with a blank map, and the visual guide tells."""
    places, (first, second) = rng.permutation(4)[:2], rng.permutation(4)[:2]
    centres = [CENTRES[p] for p in places]
    mask = disc(centres[0])
    guide = visual_guide(scene(centres[:1], (first,)), mask, VisualDraw(), 24)
    spatial = gaussian_guide(mask) if twins else np.zeros((SIDE, SIDE), np.float32)
    return scene(centres, (first, first if twins else second)), spatial, *guide, mask


def batch_of(samples):
    images, spatial, pictures, shown, masks = (torch.from_numpy(np.stack(s)) for s in zip(*samples))
    return VideoBatch(images.permute(0, 3, 1, 2).float() / 255, spatial, pictures.permute(0, 3, 1, 2).float() / 255,
                      shown.float(), masks.float(), torch.ones(masks.shape, dtype=torch.bool))  # fmt: skip


def overlap(logits, mask):
    found = logits.detach().numpy() > 0
    return (found & mask).sum() / (found | mask).sum()


class TwoConvolutions(nn.Module):
    """What the network asks of a backbone, at strides 2 and 4; fast."""

    channels = (16, 16)

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.45))
        self.first, self.second = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1)

    def forward(self, images):
        fine = torch.relu(self.first((images - self.mean) / 0.25))
        return [fine, torch.relu(self.second(fine))]


def trained_on(twins):
    """A small network that has learned scenes of two discs of one kind; about 3 seconds."""
    torch.manual_seed(0)
    model = SmallOSMN(TwoConvolutions(), dim=16, hidden=32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion, rng = VideoCriterion(balanced=0, cross_entropy=1, dice=1), np.random.default_rng(0)
    for _ in range(STEPS):
        batch = batch_of([sample(rng, twins) for _ in range(8)])
        logits = model(batch.images, batch.spatial_guides, batch.visual_guides, batch.visual_masks)
        optimizer.zero_grad()
        criterion(logits, batch)["total"].backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def by_place():
    return trained_on(twins=True)


def answer(model, image, spatial, guide_of, mask):
    picture, shown = visual_guide(guide_of, mask, VisualDraw(), 24)
    batch = batch_of([(image, spatial, picture, shown, mask)])
    with torch.no_grad():
        return model(batch.images, batch.spatial_guides, batch.visual_guides, batch.visual_masks)[0]


def test_one_of_two_twins_is_chosen_by_the_gaussian(by_place):
    image = scene([CENTRES[0], CENTRES[3]], (2, 2))
    for place in (0, 3):
        mask = disc(CENTRES[place])
        logits = answer(by_place, image, gaussian_guide(mask), scene([CENTRES[0]], (2,)), disc(CENTRES[0]))
        assert overlap(logits, mask) > 0.8


def test_one_of_two_colours_is_chosen_by_the_visual_guide():
    by_looks = trained_on(twins=False)
    image, blank = scene([CENTRES[1], CENTRES[2]], (0, 1)), np.zeros((SIDE, SIDE), np.float32)
    for place, colour in ((1, 0), (2, 1)):
        logits = answer(by_looks, image, blank, scene([CENTRES[place]], (colour,)), disc(CENTRES[place]))
        assert overlap(logits, disc(CENTRES[place])) > 0.8


class Still:
    """A track in which nothing moves."""

    name = video = "still"

    def __init__(self, frames, place=1):
        self.frames, self.place = frames, place

    def __len__(self):
        return self.frames

    def image(self, frame):
        return scene([CENTRES[1], CENTRES[2]], (3, 3))

    def mask(self, frame):
        return disc(CENTRES[self.place])


def test_a_roll_out_of_a_static_scene_is_stable_and_the_validator_scores_it(by_place):
    settings = Settings(size=(SIDE, SIDE), guide_side=24)
    videos, images = held_out_videos([Still(6)], 5, 6, 5)
    assert len(videos) == 1 and images == []
    score = Validator(videos, images, settings, "cpu")(by_place)["J"]
    short = Validator(held_out_videos([Still(2)], 1, 2, 0)[0], [], settings, "cpu")(by_place)["J"]
    assert score > 80 and abs(score - short) < 3
    compared = Validator(videos, images, settings, "cpu").compare(by_place)
    assert compared["first mask copied"] == 100 and compared["spatial modulator off"] < score - 10
    still = Validator(*held_out_videos([Still(1)], 5, 6, 5), settings, "cpu")(by_place)
    assert still["J"] == still["image J"] > 80 and "mask use" not in still


def test_mask_use_is_of_pairs_whose_results_follow_the_mask_that_was_given(by_place):
    settings = Settings(size=(SIDE, SIDE), guide_side=24)
    images = held_out_videos([Still(1, place=1), Still(1, place=2)], 5, 6, 5)[1]
    use = lambda model: Validator([], images, settings, "cpu")(model)["mask use"]  # noqa: E731
    assert use(by_place) == 100
    assert use(SwitchedOff(by_place, spatial=True)) == 0  # twins are told apart by nothing but the place
    images = held_out_videos([Still(1, place=place) for place in (1, 2, 1)], 5, 6, 5)[1]
    assert use(by_place) == pytest.approx(200 / 3)  # of the three pairs one is of the same object
