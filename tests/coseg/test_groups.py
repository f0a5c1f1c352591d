"""From a draw to tensors: labels are what all images share, masks the union of it."""

import numpy as np
import pytest
import torch

from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDraw, GroupDrawer, GroupMix, Paste, Slot, StepSampler
from ssnm.data.augment import Augmentation
from ssnm.data.partial import PartiallyAnnotated
from ssnm.data.procedural import ProceduralSource
from ssnm.data.records import Item, Sample

SIZE = (32, 32)


class Rows:
    """Every category is a row of pixels: category k of an image lies in row `rows[k]`."""

    name = "rows"
    row = {"cat": 2, "cow": 5, "dog": 9}

    def __init__(self, *contents: tuple[str, ...], void: bool = False, empty: tuple[str, ...] = ()) -> None:
        self.items = [Item(f"image{i}", None, categories) for i, categories in enumerate(contents)]
        self.categories = tuple(self.row)
        self.void, self.empty = void, empty

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        categories = self.items[index].categories
        masks = torch.zeros(len(categories), *size, dtype=torch.bool)
        for k, category in enumerate(categories):
            masks[k, self.row[category]] = category not in self.empty
        void = torch.zeros(size, dtype=torch.bool)
        void[:10] = self.void
        return Sample(torch.full((3, *size), 10 * index, dtype=torch.uint8), masks, void, grey=index == 1)


def group_of(source, category: str, slots=None, augmentation=Augmentation(flip=0.0)):
    pool = ImagePool([source])
    slots = slots or [Slot(i, seed=i) for i in range(len(source.items))]
    return GroupDataset(pool, SIZE, augmentation)[GroupDraw(category, tuple(slots))]


def rows_of(mask: torch.Tensor) -> list[int]:
    assert torch.equal(mask.any(1), mask.all(1))
    return mask.any(1).nonzero().flatten().tolist()


def test_the_label_is_what_every_image_of_the_group_shows():
    group = group_of(Rows(("cat", "dog"), ("dog", "cat", "cow"), ("cow", "cat", "dog")), "cat")
    assert group.labels.tolist() == [1, 0, 1]  # cat, cow, dog: the cow is missing in the first image


def test_a_mask_is_the_union_of_the_shared_categories():
    group = group_of(Rows(("cat", "dog"), ("dog", "cat", "cow")), "cat")
    assert [rows_of(m) for m in group.masks] == [[2, 9], [2, 9]]


def test_categories_that_not_all_images_show_are_background():
    group = group_of(Rows(("cat", "cow"), ("cat", "dog")), "cat")
    assert group.labels.tolist() == [1, 0, 0]
    assert [rows_of(m) for m in group.masks] == [[2], [2]]


def test_the_order_of_categories_in_an_item_does_not_matter():
    group = group_of(Rows(("cow", "dog"), ("dog", "cow")), "dog")
    assert torch.equal(group.masks[0], group.masks[1])


def test_a_category_that_vanished_at_training_size_is_not_shared_unless_it_was_drawn():
    source = Rows(("cat", "dog"), ("cat", "dog"), empty=("dog",))
    assert group_of(source, "cat").labels.tolist() == [1, 0, 0]
    assert group_of(source, "dog").labels.tolist() == [1, 0, 1]


def test_categories_outside_the_label_list_stay_out():
    pool = ImagePool([Rows(("cat", "dog"), ("cat", "dog"))], labels=("dog",))
    group = GroupDataset(pool, SIZE)[GroupDraw("dog", (Slot(0, 0), Slot(1, 1)))]
    assert group.labels.tolist() == [1] and rows_of(group.masks[0]) == [9]


def test_void_is_invalid_except_where_a_shared_category_lies():
    group = group_of(Rows(("cat", "cow"), ("cat",), void=True), "cat")
    assert rows_of(~group.valid[0]) == [r for r in range(10) if r != 2]


def test_a_batch_remembers_grey_images_and_names():
    batch = collate_groups([group_of(Rows(("cat",), ("cat",)), "cat")] * 3)
    assert batch.grey.tolist() == [[False, True]] * 3
    assert batch.names == (("image0", "image1"),) * 3 and batch.num_images == 6


def test_a_batch_travels_as_bytes_and_reaches_the_network_as_float():
    pool = ImagePool([ProceduralSource(num_images=20)])
    draws = GroupDrawer(pool, 3).draw(np.random.default_rng(0), 2)
    groups = [GroupDataset(pool, SIZE)[draw] for draw in draws]
    batch = collate_groups(groups)
    pixels = 2 * 3 * SIZE[0] * SIZE[1]
    tensors = (batch.images, batch.masks, batch.valid)
    assert sum(t.numel() * t.element_size() for t in tensors) == pixels * (3 + 1 + 1)
    moved = batch.to("cpu")
    assert torch.equal(moved.images, torch.stack([g.images for g in groups]).float() / 255)
    assert torch.equal(moved.masks, torch.stack([g.masks for g in groups]).float())
    again = moved.to("cpu")
    assert torch.equal(again.images, moved.images) and torch.equal(again.masks, moved.masks)


def test_a_batch_has_the_types_and_ranges_of_the_contract():
    pool = ImagePool([ProceduralSource(num_images=60)])
    sampler = StepSampler(GroupDrawer(pool, 3, mix=GroupMix(0.4, 0.4, 0.5)), 4, seed=0, start=0, stop=3)
    dataset = GroupDataset(pool, SIZE, Augmentation(0.5, 0.5, 0.7, 0.3, 0.3))
    for draws in sampler:
        batch = collate_groups([dataset[d] for d in draws]).to("cpu")
        assert batch.images.shape == (4, 3, 3, *SIZE) and batch.images.dtype == torch.float32
        assert 0 <= batch.images.min() and 0.5 < batch.images.max() <= 1
        assert batch.masks.shape == batch.valid.shape == (4, 3, *SIZE)
        assert batch.masks.unique().tolist() == [0, 1] and batch.valid.dtype == torch.bool
        assert batch.labels.shape == (4, len(pool.labels))
        for draw, labels in zip(draws, batch.labels):
            assert labels[pool.labels.index(draw.category)] == 1


def test_the_same_draw_gives_the_same_group():
    pool = ImagePool([ProceduralSource(num_images=60)])
    dataset = GroupDataset(pool, SIZE, Augmentation(0.5, 0.5, 0.7, 0.3, 0.3))
    draw = GroupDrawer(pool, 3, mix=GroupMix(pasted=1.0)).draw(np.random.default_rng(0), 2)[0]
    assert torch.equal(dataset[draw].images, dataset[draw].images)
    assert torch.equal(dataset[draw].masks, dataset[draw].masks)


# Pasting


def test_a_pasted_object_belongs_to_its_category():
    source = Rows(("cat",), ("cat",), ("dog",))
    slots = [Slot(0, 0, Paste(2, "dog", seed=s)) for s in (1, 2)]
    as_dogs, as_cats = (group_of(source, c, slots) for c in ("dog", "cat"))
    assert as_dogs.labels.tolist() == as_cats.labels.tolist() == [1, 0, 1]  # both shown by both images
    mixed = [Slot(0, 0, Paste(2, "dog", seed=1)), Slot(1, 1)]
    cats = group_of(source, "cat", mixed)
    assert cats.labels.tolist() == [1, 0, 0] and cats.masks[0].sum() <= 32  # the dog is background
    dogs = group_of(source, "dog", [mixed[0], Slot(2, 0)])
    assert dogs.labels.tolist() == [0, 0, 1] and dogs.masks[0].any()


def test_an_object_pasted_where_its_category_already_is_joins_it():
    source = Rows(("dog",), ("dog",))
    group = group_of(source, "dog", [Slot(0, 0, Paste(1, "dog", seed=3))])
    assert group.labels.tolist() == [0, 0, 1] and group.masks[0, 9].all()


@pytest.mark.parametrize("category, labels", [("dog", [0, 0, 1]), ("cat", [1, 0, 0])])
def test_pasting_an_object_that_vanished_keeps_the_drawn_label(category, labels):
    source = Rows(("cat",), ("dog",), empty=("dog",))
    slots = [Slot(0, 0, Paste(1, "dog", seed=0)), Slot(1 if category == "dog" else 0, 1)]
    assert group_of(source, category, slots).labels.tolist() == labels


# Foreign images, other groups, categories that nobody annotated


def test_a_foreign_image_has_an_empty_truth_and_does_not_change_the_label():
    source = Rows(("cat",), ("cat",), ("dog",))
    group = group_of(source, "cat", [Slot(0, 0), Slot(1, 1), Slot(2, 2, foreign=True)])
    assert group.labels.tolist() == [1, 0, 0]
    assert [rows_of(m) for m in group.masks] == [[2], [2], []] and bool(group.valid[2].all())


def test_an_image_under_the_next_groups_gamma_shows_what_it_holds_of_its_object():
    source = Rows(("cat",), ("cat", "dog"), ("dog",), ("dog",))
    cats = group_of(source, "cat", [Slot(0, 0), Slot(1, 1)])
    dogs = group_of(source, "dog", [Slot(2, 0), Slot(3, 1)])
    batch = collate_groups([cats, dogs], exchange=True)
    assert [rows_of(m > 0) for m in batch.other_masks[0]] == [[], [9]]  # the dog of the second cat image
    assert not batch.other_masks[1].any() and bool(batch.other_valid.all())
    assert collate_groups([cats, dogs]).other_masks is None


def test_what_a_partly_annotated_image_shows_of_another_group_is_unknown():
    pool = ImagePool([PartiallyAnnotated(Rows(("cat",), ("cat",)), every_image=False), Rows(("dog",), ("dog",))])
    dataset = GroupDataset(pool, SIZE)
    cats, dogs = (dataset[GroupDraw(c, (Slot(i, 0), Slot(i + 1, 1)))] for c, i in (("cat", 0), ("dog", 2)))
    batch = collate_groups([cats, dogs], exchange=True)
    assert not batch.other_valid[0].any() and bool(batch.other_valid[1].all())
    assert batch.known.tolist() == [[True, False, False], [True, True, True]]


def test_a_category_that_one_annotated_image_lacks_is_known_not_to_be_shared():
    pool = ImagePool([PartiallyAnnotated(Rows(("cat",)), every_image=False), Rows(("cat", "dog"))])
    group = GroupDataset(pool, SIZE)[GroupDraw("cat", (Slot(0, 0), Slot(1, 1)))]
    assert group.known.tolist() == [True, True, False]  # cat shared, no cow in the second, a dog perhaps in both
