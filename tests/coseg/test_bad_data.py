"""Bad images during training: replaced from the same category, said once, counted, and too many stop the run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ssnm.coseg.config import config_from_dict
from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.release.union_first import UnionFirstDataset
from ssnm.coseg.replacements import MAX_TRIES
from ssnm.coseg.sampler import GroupDraw, GroupDrawer, Paste, Slot, StepSampler
from ssnm.data.bad_images import BadImageLog
from ssnm.data.folders import ProcessedSource
from ssnm.data.records import BadImage, Item, Sample
from ssnm.errors import ConfigError, DataError, MissingFileError

SIZE = (24, 24)


def processed(root, counts):
    """A set of squares; the red and green of an image are its number, the blue is its category's."""
    for category, count in counts.items():
        for i in range(count):
            image = np.full((20, 20, 3), (i, i, ord(category[0])))
            for folder, pixels in (("image", image), ("groundtruth", np.eye(20) * 255)):
                path = root / folder / category / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                if folder == "groundtruth":
                    pixels[4:12, 4:12] = 255
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def root(tmp_path):
    return processed(tmp_path / "set", {"cat": 12, "dog": 9})


def damage(root, kind: str, category: str = "cat", number: int = 3):
    """Make one image bad in one of the ways that there are; the file to be named comes back."""
    image, mask = (root / folder / category / f"{number}.png" for folder in ("image", "groundtruth"))
    if kind == "undecodable":
        image.write_bytes(image.read_bytes()[:40])
    elif kind == "missing image":
        image.unlink()
    elif kind == "missing mask":
        mask.unlink()
    elif kind == "empty mask":
        Image.new("L", (20, 20)).save(mask)
    return mask if kind == "missing mask" else image


KINDS = ["undecodable", "missing image", "missing mask", "empty mask"]


def draw_of(*numbers: int, category: str = "cat") -> GroupDraw:
    return GroupDraw(category, tuple(Slot(n, seed=100 + n) for n in numbers))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_is_replaced_from_its_category_and_named(root, kind):
    pool = ImagePool([ProcessedSource(root)])
    draw = draw_of(1, 3, 5)
    before = GroupDataset(pool, SIZE)[draw]
    path = damage(root, kind)
    group = GroupDataset(pool, SIZE)[draw]
    assert len(group.bad) == 1 and str(path) in group.bad[0].problem and "\n" not in group.bad[0].problem
    assert group.bad[0].image == str(root / "image" / "cat" / "3.png")
    assert group.names[0] == before.names[0] and group.names[2] == before.names[2]
    assert torch.equal(group.images[[0, 2]], before.images[[0, 2]])  # the others are untouched
    assert "/cat/" in group.names[1] and group.names[1] not in before.names
    assert group.masks.flatten(1).any(1).all() and group.labels.tolist() == before.labels.tolist()


def test_the_replacement_depends_on_the_slot_alone(root):
    source = ProcessedSource(root)
    damage(root, "undecodable")
    first, again = (GroupDataset(ImagePool([source]), SIZE)[draw_of(1, 3, 5)] for _ in range(2))
    assert first.names == again.names and torch.equal(first.images, again.images)
    dataset = GroupDataset(ImagePool([source]), SIZE)
    others = {dataset[GroupDraw("cat", (Slot(3, seed), Slot(1, 1)))].names[0] for seed in range(9)}
    assert len(others) > 3


def test_several_bad_images_of_one_group_get_different_replacements(root):
    source = ProcessedSource(root)
    for number in (1, 3, 5, 6):
        damage(root, "undecodable", number=number)
    group = GroupDataset(ImagePool([source]), SIZE)[draw_of(1, 3, 5, 6)]
    assert len(set(group.names)) == 4
    assert sorted(b.image for b in group.bad) == sorted(str(source.items[n].image) for n in (1, 3, 5, 6))


def test_the_donor_of_a_pasted_object_is_replaced_by_one_of_its_category(root):
    source = ProcessedSource(root)
    path = damage(root, "empty mask", "dog", 2)
    donor = 12 + 2
    slots = (Slot(0, 1, Paste(donor, "dog", seed=5)), Slot(12, 2))
    group = GroupDataset(ImagePool([source]), SIZE)[GroupDraw("dog", slots)]
    assert [b.image for b in group.bad] == [str(path)]
    assert group.masks[0].any() and group.names[0] == str(source.items[0].image)


def test_an_image_that_is_shared_by_two_slots_is_replaced_in_both(root):
    source = ProcessedSource(root)
    path = damage(root, "undecodable")
    group = GroupDataset(ImagePool([source]), SIZE)[GroupDraw("cat", (Slot(3, 1), Slot(3, 2), Slot(1, 3)))]
    assert str(path) not in group.names and len(set(group.names)) == 3 and len(group.bad) == 1


def test_a_small_category_repeats_an_image_rather_than_end_the_run(tmp_path):
    source = ProcessedSource(processed(tmp_path, {"cat": 3}))
    path = damage(tmp_path, "undecodable", number=1)
    group = GroupDataset(ImagePool([source]), SIZE)[draw_of(0, 1, 2)]
    assert len(set(group.names)) == 2 and str(path) not in group.names


def test_an_empty_mask_that_nothing_can_replace_is_kept_and_told(tmp_path):
    source = ProcessedSource(processed(tmp_path, {"cat": 2}))
    for number in (0, 1):
        damage(tmp_path, "empty mask", number=number)
    group = GroupDataset(ImagePool([source]), SIZE)[draw_of(0, 1)]
    assert len({b.image for b in group.bad}) == 2 and not group.masks.any() and group.labels.tolist() == [1]


def test_a_category_without_a_usable_image_ends_with_one_line(tmp_path):
    source = ProcessedSource(processed(tmp_path, {"cat": 3}))
    for number in range(3):
        damage(tmp_path, "undecodable", number=number)
    with pytest.raises(DataError, match="'cat': no image of it can be used.*png") as error:
        GroupDataset(ImagePool([source]), SIZE)[draw_of(0, 1)]
    assert "\n" not in str(error.value)


def test_a_disk_that_went_away_does_not_make_a_worker_try_every_image(tmp_path):
    class Gone:
        name, categories, loads = "gone", ("cat",), 0
        items = [Item(f"{i}.png", None, ("cat",)) for i in range(1000)]

        def load(self, index, size):
            self.loads += 1
            raise MissingFileError(f"{index}.png: no such image file")

    source = Gone()
    with pytest.raises(DataError, match="is the disk there"):
        GroupDataset(ImagePool([source]), SIZE)[draw_of(7, 8)]
    assert source.loads == MAX_TRIES + 1


def test_masks_united_at_full_size_replace_unreadable_images_too(root):
    class Uniting(ProcessedSource):
        def load_union(self, index, categories, size) -> Sample:
            return self.load(index, size)

    source = Uniting(root)
    path = damage(root, "undecodable")
    group = UnionFirstDataset(ImagePool([source]), SIZE)[draw_of(1, 3, 5)]
    assert [b.image for b in group.bad] == [str(path)] and str(path) not in group.names


# The account of a run


def loader(source, workers: int, start: int = 0) -> DataLoader:
    drawer = GroupDrawer(ImagePool([source]), 4)
    sampler = StepSampler(drawer, groups=2, seed=0, start=start, stop=12)
    dataset = GroupDataset(drawer.pool, SIZE)
    return DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate_groups)


def test_workers_report_each_image_once_and_batches_do_not_depend_on_their_number(root, tmp_path):
    source = ProcessedSource(root)
    bad = [str(damage(root, kind, number=number)) for number, kind in enumerate(KINDS)]
    said = {0: [], 2: []}
    batches = {}
    for workers in (0, 2):
        log = BadImageLog(10, say=said[workers].append)
        batches[workers] = list(log.watch(loader(source, workers)))
        assert log.replaced > len(log.images) == 4 and "4, replaced" in log.summary()
    assert said[0] == said[2] and len(said[0]) == 4
    assert all(any(path in line for line in said[0]) for path in bad)
    assert all(torch.equal(a.images, b.images) for a, b in zip(batches[0], batches[2]))


def test_a_resumed_run_makes_the_same_batches_and_says_nothing_twice(root, tmp_path):
    source = ProcessedSource(root)
    for number in range(4):
        damage(root, "undecodable", number=number)
    path, said = tmp_path / "run" / "bad_images.jsonl", []
    whole = list(BadImageLog(10, path, said.append).watch(loader(source, 0)))
    assert len(said) == 4 and len(path.read_text().splitlines()) == 4
    with open(path, "a") as file:
        file.write('{"image": "cut off by a k')
    log = BadImageLog(10, path, said.append)
    rest = list(log.watch(loader(source, 0, start=5)))
    assert len(said) == 4 and len(log.images) == 4
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[5:], rest))
    log.see([BadImage("new.png", "new.png: is new")])
    assert json.loads(path.read_text().splitlines()[-1]) == {"image": "new.png", "problem": "new.png: is new"}


def test_a_run_without_bad_images_has_nothing_to_say(root):
    log = BadImageLog(0)
    assert all(batch.bad == () for batch in log.watch(loader(ProcessedSource(root), 0)))
    assert log.summary() is None


def test_more_bad_images_than_the_limit_stop_the_run_with_one_line(root):
    source = ProcessedSource(root)
    for number in range(4):
        damage(root, "undecodable", number=number)
    log = BadImageLog(2, say=lambda line: None)
    with pytest.raises(DataError, match="3 bad images, data.max_bad_images allows 2") as error:
        list(log.watch(loader(source, 0)))
    assert "\n" not in str(error.value)


def test_an_error_from_a_worker_arrives_as_its_one_line(tmp_path):
    source = ProcessedSource(processed(tmp_path, {"cat": 5}))
    for number in range(5):
        damage(tmp_path, "missing image", number=number)
    with pytest.raises(DataError, match="^category 'cat': no image of it can be used") as error:
        list(BadImageLog(10, say=lambda line: None).watch(loader(source, 1)))
    assert "\n" not in str(error.value)


def test_a_batch_keeps_its_account_on_the_way_to_the_device(root):
    source = ProcessedSource(root)
    damage(root, "undecodable")
    batch = collate_groups([GroupDataset(ImagePool([source]), SIZE)[draw_of(1, 3, 5)]] * 2)
    assert len(batch.to("cpu").bad) == 2


def test_the_limit_must_not_be_negative():
    assert config_from_dict({"data": {"max_bad_images": 0}}).data.max_bad_images == 0
    with pytest.raises(ConfigError, match="data.max_bad_images"):
        config_from_dict({"data": {"max_bad_images": -1}})
