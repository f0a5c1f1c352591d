"""Joint augmentation: image and masks move together, masks stay masks, the object stays in the picture."""

import numpy as np
import pytest
import torch

from ssnm.data.augment import Augmentation, crop_and_resize, paste_object
from ssnm.data.procedural import ProceduralSource
from ssnm.data.records import Sample

NOTHING = dict(flip=0.0, crop=1.0, colour=0.0, grey=0.0)
SEEDS = range(30)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc_sample(size: tuple[int, int] = (48, 64), centre: tuple[int, int] = (20, 40), radius: int = 9) -> Sample:
    """A white disc on black with a ring of void around it: the image shows what the mask says."""
    rows, columns = torch.meshgrid(*(torch.arange(s) for s in size), indexing="ij")
    distance = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2).sqrt()
    disc = distance <= radius
    image = (disc * 255).to(torch.uint8).expand(3, *size).clone()
    return Sample(image, disc[None], (distance > radius) & (distance <= radius + 2), False)


@pytest.fixture(scope="module")
def scene() -> Sample:
    return ProceduralSource(num_images=1).load(0, (64, 64))


def test_an_augmentation_of_nothing_changes_nothing(scene):
    out = Augmentation(**NOTHING)(scene, scene.masks[0], rng())
    assert all(torch.equal(getattr(out, k), getattr(scene, k)) for k in ("image", "masks", "void"))


def test_the_result_depends_on_the_generator_alone(scene):
    augment = Augmentation(0.5, 0.5, 0.7, 0.3, 0.3)
    first, again, other = (augment(scene, scene.masks[0], rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image) and torch.equal(first.masks, again.masks)
    assert not torch.equal(first.image, other.image)


def test_the_input_is_not_written_to(scene):
    before = scene.image.clone(), scene.masks.clone(), scene.void.clone()
    for seed in SEEDS:
        Augmentation(0.5, 0.5, 0.7, 0.3, 0.5)(scene, scene.masks[0], rng(seed))
        paste_object(scene, scene.image, scene.masks[0], rng(seed))
    assert torch.equal(scene.image, before[0]) and torch.equal(scene.masks, before[1])
    assert torch.equal(scene.void, before[2])


def test_a_flip_turns_image_masks_and_void_together(scene):
    out = Augmentation(**NOTHING | dict(flip=1.0))(scene, scene.masks[0], rng())
    assert torch.equal(out.image, scene.image.flip(-1))
    assert torch.equal(out.masks, scene.masks.flip(-1)) and torch.equal(out.void, scene.void.flip(-1))


def test_half_of_the_images_are_flipped():
    sample = disc_sample()
    flipped = [Augmentation(flip=0.5)(sample, sample.masks[0], rng(s)).masks[0, 20, 23] for s in range(300)]
    assert 120 < sum(map(bool, flipped)) < 180


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_and_void_stay_boolean_and_types_and_sizes_stay(seed, scene):
    out = Augmentation(0.5, 0.4, 0.7, 0.3, 0.3)(scene, scene.masks[0], rng(seed))
    assert (out.masks.dtype, out.void.dtype, out.image.dtype) == (torch.bool, torch.bool, torch.uint8)
    assert (out.masks.shape, out.image.shape, out.void.shape) == (scene.masks.shape, scene.image.shape, (64, 64))


@pytest.mark.parametrize("seed", SEEDS)
def test_image_and_mask_are_cropped_alike(seed):
    sample = disc_sample()
    out = Augmentation(flip=0.5, crop=0.4, keep=0.5)(sample, sample.masks[0], rng(seed))
    bright = out.image[0] > 127
    disagree = (bright != out.masks[0]).float().mean()
    assert disagree < 0.02  # the interpolated rim of the disc
    assert not (out.void & out.masks[0]).any()


@pytest.mark.parametrize("keep", [0.3, 0.7, 1.0])
def test_a_crop_keeps_the_asked_share_of_the_object(keep):
    sample = disc_sample(centre=(22, 30))
    shrunk = 0
    for seed in range(60):
        top, left, height, width = Augmentation(crop=0.3, keep=keep)._crop_box(sample.masks[0], rng(seed))
        kept = sample.masks[0][top : top + height, left : left + width].sum() / sample.masks[0].sum()
        assert kept >= keep
        assert 0 <= top and top + height <= 48 and 0 <= left and left + width <= 64
        assert height >= 0.3 * 48 - 1 and width >= 0.3 * 64 - 1
        shrunk += (height, width) != (48, 64)
    assert shrunk > 30  # it does crop


def test_an_image_without_the_object_can_be_cropped():
    sample = disc_sample()
    out = Augmentation(crop=0.5)(sample, torch.zeros(48, 64, dtype=torch.bool), rng())
    assert out.image.shape == sample.image.shape


def test_a_crop_of_the_left_half_by_hand():
    image = torch.zeros(3, 4, 8, dtype=torch.uint8)
    image[:, :, :4] = 200
    masks = image[:1] > 0
    out, out_masks, out_void = crop_and_resize(image, masks, ~masks[0], (0, 0, 4, 4))
    assert (out == 200).all() and out_masks.all() and not out_void.any()
    assert out.shape == image.shape and out_masks.shape == masks.shape and out_void.shape == (4, 8)


def test_grey_drops_the_colour_of_the_image_and_not_what_the_file_was(scene):
    out = Augmentation(**NOTHING | dict(grey=1.0))(scene, scene.masks[0], rng())
    assert torch.equal(out.image[0], out.image[1]) and torch.equal(out.image[1], out.image[2])
    assert out.image.shape == scene.image.shape and out.grey is False


def test_colour_changes_the_image_and_no_mask(scene):
    out = Augmentation(**NOTHING | dict(colour=0.4))(scene, scene.masks[0], rng())
    assert not torch.equal(out.image, scene.image)
    assert torch.equal(out.masks, scene.masks) and torch.equal(out.void, scene.void)


# Copy-paste


@pytest.fixture
def base() -> Sample:
    return disc_sample(size=(64, 64), centre=(40, 40), radius=12)


@pytest.fixture
def donor() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[10:20, 10:30] = True
    image[0, mask] = 250  # red inside, black outside
    return image, mask


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pasted_object_covers_what_lies_under_it(base, donor, seed):
    out, placed = paste_object(base, *donor, rng(seed))
    assert placed.any()
    assert torch.equal(out.masks[0], base.masks[0] & ~placed)
    assert torch.equal(out.void, base.void & ~placed)
    assert torch.equal(out.image[:, ~placed], base.image[:, ~placed])
    assert (out.image[0, placed] > 60).float().mean() > 0.9 and (out.image[1:, placed] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pasted_object_is_between_15_and_60_percent_of_the_side(base, donor, seed):
    _, placed = paste_object(base, *donor, rng(seed))
    rows, columns = placed.any(1).sum(), placed.any(0).sum()
    assert 0.15 * 64 - 1 <= max(rows, columns) <= 0.6 * 64 + 1
    assert float(columns / rows) == pytest.approx(2, rel=0.3)  # its shape is kept


@pytest.mark.parametrize("seed", SEEDS)
def test_pasting_leaves_the_objects_of_the_base_visible(base, donor, seed):
    out, _ = paste_object(base, *donor, rng(seed), keep=0.5)
    assert out.masks[0].sum() >= 0.5 * base.masks[0].sum()


def test_a_base_without_objects_can_be_pasted_into(base, donor):
    empty = Sample(base.image, base.masks[:0], base.void, False)
    out, placed = paste_object(empty, *donor, rng())
    assert placed.any() and out.masks.shape[0] == 0


@pytest.mark.parametrize("height, width", [(1, 1), (1, 64), (64, 1), (64, 64)])
def test_objects_of_one_pixel_one_row_and_the_whole_image_can_be_pasted(base, height, width):
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:height, :width] = True
    for seed in range(10):
        out, placed = paste_object(base, base.image, mask, rng(seed))
        assert out.image.shape == base.image.shape and placed.shape == (64, 64) and placed.any()


def test_a_crop_is_resized_exactly_for_masks_and_smoothly_for_images():
    image = torch.tensor([0, 90, 180], dtype=torch.uint8).expand(3, 5, 3).contiguous()
    image = torch.nn.functional.pad(image, (0, 2))
    mask = torch.tensor([False, False, True, False, False]).expand(1, 5, 5)
    out, masks, _ = crop_and_resize(image, mask, mask[0], (0, 0, 5, 3))
    # centres of the 5 new columns lie at 0.3, 0.9, 1.5, 2.1, 2.7 of the 3 old ones; plain "nearest" has the last alone
    assert masks[0, 0].tolist() == [False, False, False, True, True]
    assert len(set(out[0, 0].tolist()) - {0, 90, 180}) >= 2  # values between the old ones
