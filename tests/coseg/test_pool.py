"""Several sources as one collection, and the split into training and held-out images."""

from dataclasses import dataclass, field

import pytest
import torch

from ssnm.coseg.pool import ImagePool, MemoryCache
from ssnm.data.procedural import ProceduralSource
from ssnm.data.records import Item, Sample
from ssnm.errors import DataError


@dataclass
class Listed:
    """A source of blank images with the categories that it is told."""

    name: str
    contents: dict[str, tuple[str, ...]]
    loads: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.items = [Item(name, None, categories) for name, categories in self.contents.items()]
        self.categories = tuple(sorted({c for categories in self.contents.values() for c in categories}))

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        self.loads.append((index, size))
        count = len(self.items[index].categories)
        return Sample(
            torch.full((3, *size), index, dtype=torch.uint8), torch.ones(count, *size).bool(),
            torch.zeros(size).bool(), False,
        )


@pytest.fixture
def sources():
    voc = Listed("voc", {"a": ("airplane",), "b": ("cat", "airplane"), "c": ()})
    coco = Listed("coco", {"a": ("airplane", "dog"), "d": ("cat", "airplane", "dog")})
    return voc, coco


def test_sources_are_numbered_through_under_one_label_list(sources):
    pool = ImagePool(sources)
    assert pool.labels == ("airplane", "cat", "dog")
    assert pool.members == {"airplane": [0, 1, 3, 4], "cat": [1, 4], "dog": [3, 4]}
    assert [(pool.source_name(n), pool.item(n).name) for n in (0, 3)] == [("voc", "a"), ("coco", "a")]
    assert pool.load(4, (2, 3)).image[0, 0, 0] == 1 and sources[1].loads == [(1, (2, 3))]


def test_pairs_name_the_images_of_two_categories(sources):
    assert ImagePool(sources).pairs == {
        ("airplane", "cat"): [1, 4], ("airplane", "dog"): [3, 4], ("cat", "dog"): [4]
    }


def test_categories_outside_the_label_list_do_not_count(sources):
    pool = ImagePool(sources, labels=("dog", "cat"))
    assert pool.labels == ("dog", "cat")  # its order is the order of the classifier's rows
    assert set(pool.members) == {"cat", "dog"} and set(pool.pairs) == {("cat", "dog")}


def test_a_label_list_that_meets_no_image_is_refused(sources):
    with pytest.raises(DataError, match="no image of .'voc', 'coco'. has a category of the label list"):
        ImagePool(sources, labels=("unicorn",))


def test_the_split_is_complete_and_without_overlap():
    pool = ImagePool([ProceduralSource(num_images=400)])
    training, held_out = pool.split(0.2)
    assert sorted([*training.ids, *held_out.ids]) == list(range(400))
    assert 50 < len(held_out.ids) < 110
    assert training.labels == held_out.labels == pool.labels


def names(pool: ImagePool) -> set[str]:
    return {pool.item(n).name for n in pool.ids}


def test_an_image_stays_on_its_side_when_others_come_and_go():
    few, many = (ImagePool([ProceduralSource(num_images=n)]).split(0.3)[1] for n in (100, 300))
    assert names(few) == {n for n in names(many) if int(n.split("_")[1]) < 100}


def test_an_image_stays_on_its_side_when_a_source_is_put_before_its_own():
    own = Listed("own", {f"n{i}": ("cat",) for i in range(60)})
    other = Listed("other", {f"m{i}": ("cat",) for i in range(7)})
    alone, behind = (names(ImagePool(sources).split(0.3)[1]) for sources in ([own], [other, own]))
    assert alone == {n for n in behind if n.startswith("n")}


def test_one_photograph_in_two_class_folders_stays_on_one_side():
    own = Listed("own", {f"{kind}/n{i}": (kind,) for i in range(40) for kind in ("cat", "dog")})
    held_out = names(ImagePool([own]).split(0.3)[1])
    cats, dogs = ({n.rpartition("/")[2] for n in held_out if n.startswith(kind)} for kind in ("cat", "dog"))
    assert cats == dogs and 0 < len(cats) < 40


def test_another_seed_holds_out_other_images_and_a_larger_share_the_same_and_more():
    pool = ImagePool([ProceduralSource(num_images=200)])
    assert names(pool.split(0.3, seed=0)[1]) != names(pool.split(0.3, seed=1)[1])
    assert names(pool.split(0.1)[1]) < names(pool.split(0.3)[1])


@pytest.mark.parametrize("holdout", [0.0, 0.9999999])
def test_a_split_with_an_empty_side_says_what_to_change(sources, holdout):
    with pytest.raises(DataError, match="both must be at least 1: change data.holdout"):
        ImagePool(sources).split(holdout)


def test_a_cached_source_decodes_an_image_once_per_size(sources):
    source = sources[0]
    cache = MemoryCache(source)
    assert (cache.name, cache.items, cache.categories) == (source.name, source.items, source.categories)
    first, again, other = cache.load(1, (4, 4)), cache.load(1, (4, 4)), cache.load(1, (8, 4))
    assert first is again and other.image.shape == (3, 8, 4)
    assert source.loads == [(1, (4, 4)), (1, (8, 4))]
