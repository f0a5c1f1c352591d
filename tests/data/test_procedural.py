"""The procedural data set: what it must promise so that its groups are a fair test of co-segmentation."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.data import procedural_scene
from ssnm.data.procedural import ProceduralSource, write_procedural
from ssnm.data.procedural_kinds import INKS, KINDS, SEEN_KINDS, SHAPES, TEXTURES, UNSEEN_KINDS
from ssnm.data.procedural_scene import CENTRE, RADIUS, sample_layout
from ssnm.data.records import Sample
from ssnm.errors import DataError
from ssnm.files.images import load_rgb
from ssnm.files.masks import read_binary
from ssnm.naming import canonical_category

SIZE = (64, 64)
COUNT = 240


@pytest.fixture(scope="module")
def source() -> ProceduralSource:
    return ProceduralSource(num_images=COUNT, seed=5)


@pytest.fixture(scope="module")
def rendered(source) -> list[tuple[np.ndarray, np.ndarray]]:
    return [source.render(i, SIZE) for i in range(COUNT)]


def fingerprint(source: ProceduralSource) -> str:
    digest = hashlib.sha256()
    for index, item in enumerate(source.items):
        image, masks = source.render(index, SIZE)
        digest.update(repr(item).encode() + image.tobytes() + masks.tobytes())
    return digest.hexdigest()


def jaccard(predicted: np.ndarray, truth: np.ndarray) -> float:
    return (predicted & truth).sum() / (predicted | truth).sum()


# --- The catalogue ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_the_area_of_the_unit_disc_and_stays_within_its_reach(name):
    side = (np.arange(800) + 0.5) / 200 - 2  # [-2, 2]
    u, v = np.meshgrid(side, side)
    inside = SHAPES[name].distance(u, v) < 0
    assert inside.sum() / 200**2 == pytest.approx(np.pi, rel=0.01)
    assert np.hypot(u, v)[inside].max() <= SHAPES[name].reach
    assert abs(u[inside].mean()) < 0.02 and abs(v[inside].mean()) < 0.02, "not centred"


@pytest.mark.parametrize("name", TEXTURES)
def test_every_texture_shows_both_inks_in_fair_shares(name):
    side = (np.arange(400) + 0.5) / 200 - 1
    u, v = np.meshgrid(side, side)
    share = (TEXTURES[name](u, v) > 0)[np.hypot(u, v) < 1].mean()
    assert 0.25 < share < 0.75


def test_no_two_kinds_share_their_pair_of_inks_or_their_shape_and_texture():
    assert len(KINDS) == len(SEEN_KINDS) + len(UNSEEN_KINDS) == 16
    assert len({frozenset(kind.inks) for kind in KINDS.values()}) == len(KINDS)
    assert len({(kind.shape, kind.texture) for kind in KINDS.values()}) == len(KINDS)


def test_names_say_texture_and_shape_and_are_canonical():
    assert "striped disc" in SEEN_KINDS
    assert all(name == canonical_category(name) == kind.name for name, kind in KINDS.items())


def test_unseen_kinds_are_new_combinations_of_seen_shapes_textures_and_inks():
    assert not set(SEEN_KINDS) & set(UNSEEN_KINDS)
    seen = [KINDS[name] for name in SEEN_KINDS]
    assert {kind.shape for kind in seen} == set(SHAPES)
    assert {kind.texture for kind in seen} == set(TEXTURES)
    assert {ink for kind in seen for ink in kind.inks} == set(INKS)


# --- Items ----------------------------------------------------------------------------------------------


def test_every_item_shows_at_least_two_kinds_each_once(source):
    sizes = Counter(len(item.categories) for item in source.items)
    assert set(sizes) == {2, 3} and min(sizes.values()) > COUNT / 3
    assert all(len(set(item.categories)) == len(item.categories) for item in source.items)
    assert len({item.name for item in source.items}) == COUNT


def test_a_source_of_seen_kinds_never_shows_an_unseen_kind():
    items = ProceduralSource(SEEN_KINDS, num_images=500).items
    assert {kind for item in items for kind in item.categories} == set(SEEN_KINDS)


def test_all_kinds_are_used_equally_often(source):
    uses = Counter(kind for item in source.items for kind in item.categories)
    assert set(uses) == set(KINDS)
    assert max(uses.values()) - min(uses.values()) <= 2


@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
def test_all_kinds_are_equally_often_painted_first_and_last(place):
    kinds = SEEN_KINDS[:6]
    items = ProceduralSource(kinds, num_images=6000).items
    counts = np.array([Counter(item.categories[place] for item in items)[kind] for kind in kinds])
    expected = len(items) / len(kinds)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)


def test_all_pairs_of_kinds_meet_about_equally_often():
    kinds = SEEN_KINDS[:6]
    items = ProceduralSource(kinds, num_images=6000).items
    pairs = Counter(frozenset(pair) for item in items for pair in combinations(item.categories, 2))
    assert len(pairs) == 15
    assert max(pairs.values()) < 1.25 * min(pairs.values())


def test_all_objects_of_an_image_have_the_same_distribution_of_size_and_place():
    rng = np.random.default_rng(0)
    centres, radii = map(np.stack, zip(*(sample_layout(3, rng) for _ in range(4000)), strict=True))
    assert np.ptp(radii.mean(axis=0)) < 0.05 * (RADIUS[1] - RADIUS[0])
    assert np.ptp(centres.mean(axis=0), axis=0).max() < 0.05 * (CENTRE[1] - CENTRE[0])
    assert np.ptp(centres.std(axis=0), axis=0).max() < 0.05 * (CENTRE[1] - CENTRE[0])


def test_items_do_not_depend_on_how_many_follow(source, rendered):
    shorter = ProceduralSource(num_images=20, seed=5)
    assert shorter.items == source.items[:20]
    np.testing.assert_array_equal(shorter.render(7, SIZE)[0], rendered[7][0])


def test_another_process_draws_the_same_images():
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_procedural import ProceduralSource, fingerprint\n"
        "print(fingerprint(ProceduralSource(num_images=10, seed=3)))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint(ProceduralSource(num_images=10, seed=3))


def test_images_of_the_same_kinds_still_differ():
    """Two kinds, two objects an image: only the index, or the seed, is left to make a difference."""
    pair = ("rayed star", "striped disc")
    first, second = (ProceduralSource(pair, 10, objects_per_image=(2, 2), seed=seed) for seed in (0, 1))
    pictures = [drawn.render(i, SIZE)[0] for drawn in (first, second) for i in range(10)]
    assert min((a != b).mean() for a, b in combinations(pictures, 2)) > 0.5


# --- Pictures and masks -----------------------------------------------------------------------------------


def test_a_sample_is_what_the_contract_says(source, rendered):
    height, width = 48, 80
    sample = source.load(2, (height, width))
    count = len(source.items[2].categories)
    assert isinstance(sample, Sample) and sample.grey is False
    assert sample.image.shape == (3, height, width) and sample.image.dtype == torch.uint8
    assert sample.masks.shape == (count, height, width) and sample.masks.dtype == torch.bool
    assert sample.void.shape == (height, width) and not sample.void.any()
    square = source.load(2, SIZE)
    np.testing.assert_array_equal(square.image.permute(1, 2, 0).numpy(), rendered[2][0])
    np.testing.assert_array_equal(square.masks.numpy(), rendered[2][1])


def test_no_pixel_belongs_to_two_objects(rendered):
    assert all(masks.sum(axis=0).max() == 1 for _, masks in rendered)


def test_a_later_object_hides_an_earlier_one(monkeypatch):
    """A small disc at the place of a large one: painted second it makes a hole, painted first it vanishes."""
    radii = np.array([0.22, 0.14])
    centres = np.full((2, 2), 0.5)
    monkeypatch.setattr(procedural_scene, "sample_layout", lambda count, rng: (centres, radii))
    source = ProceduralSource(("striped disc", "dotted disc"), 1, objects_per_image=(2, 2))
    below, above = source.render(0, (128, 128))[1].mean(axis=(1, 2))
    assert above == pytest.approx(np.pi * 0.14**2, rel=0.02)
    assert below == pytest.approx(np.pi * (0.22**2 - 0.14**2), rel=0.02)
    radii[:] = radii[::-1].copy()
    below, above = source.render(0, (128, 128))[1].mean(axis=(1, 2))
    assert below == 0 and above == pytest.approx(np.pi * 0.22**2, rel=0.02)


def test_every_kind_of_an_item_is_visible(rendered):
    areas = np.concatenate([masks.mean(axis=(1, 2)) for _, masks in rendered])
    assert areas.min() > 0.5 * np.pi * RADIUS[0] ** 2
    assert areas.max() < 1.1 * np.pi * RADIUS[1] ** 2


def test_no_kind_is_larger_than_another():
    source = ProceduralSource(num_images=800, seed=2)
    areas: dict[str, list[float]] = {kind: [] for kind in source.categories}
    for index, item in enumerate(source.items):
        for kind, mask in zip(item.categories, source.render(index, (32, 32))[1], strict=True):
            areas[kind].append(mask.mean())
    means = np.array([np.mean(values) for values in areas.values()])
    assert means.max() < 1.2 * means.min()


def test_the_same_item_at_two_sizes_is_the_same_scene(source):
    for index in range(5):
        small, large = source.render(index, (64, 64)), source.render(index, (192, 192))
        shrunk = large[1].reshape(-1, 64, 3, 64, 3).mean(axis=(2, 4)) > 0.5
        assert min(jaccard(a, b) for a, b in zip(small[1], shrunk, strict=True)) > 0.93
        difference = np.abs(large[0].reshape(64, 3, 64, 3, 3).mean(axis=(1, 3)) - small[0]).mean()
        assert difference < 8


def test_objects_of_a_kind_look_alike_in_colour_and_unlike_the_background(source, rendered):
    """Mean colours of one kind's objects lie closer together than those of any two kinds taken at random."""
    colours: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    saturation = {"objects": [], "background": []}
    for item, (image, masks) in zip(source.items, rendered, strict=True):
        chroma = np.ptp(image, axis=2)
        saturation["objects"].append(chroma[masks.any(axis=0)].mean())
        saturation["background"].append(chroma[~masks.any(axis=0)].mean())
        for kind, mask in zip(item.categories, masks, strict=True):
            colours[kind].append(image[mask].mean(axis=0))
    within = np.mean([np.linalg.norm(np.std(values, axis=0)) for values in colours.values()])
    overall = np.linalg.norm(np.std(np.concatenate(list(colours.values())), axis=0))
    assert within < 0.6 * overall
    assert np.mean(saturation["objects"]) > 2 * np.mean(saturation["background"])


@pytest.mark.parametrize("kinds", [SEEN_KINDS, UNSEEN_KINDS], ids=["seen", "unseen"])
def test_perfect_segmentation_that_ignores_the_group_scores_at_most_055(kinds):
    """Groups of one kind and five images of it; the prediction is the union of all objects."""
    source = ProceduralSource(kinds, num_images=150, seed=9)
    rng = np.random.default_rng(0)
    scores = []
    for kind in kinds:
        members = [i for i, item in enumerate(source.items) if kind in item.categories]
        for index in rng.choice(members, 5, replace=False):
            masks = source.render(index, SIZE)[1]
            scores.append(jaccard(masks.any(axis=0), masks[source.items[index].categories.index(kind)]))
    assert 0.30 < np.mean(scores) <= 0.55


# --- Writing a folder -----------------------------------------------------------------------------------


def test_a_written_set_reads_back_as_rendered(tmp_path):
    kinds = ("striped disc", "rayed star", "zigzag cross")
    root = write_procedural(tmp_path / "set", kinds, images_per_kind=4, size=(40, 56), seed=2)
    source = ProceduralSource(kinds, num_images=16, seed=2)
    by_name = {item.name: index for index, item in enumerate(source.items)}
    for kind in kinds:
        images = sorted((root / "image" / kind).glob("*.jpg"))
        assert len(images) == 4
        for path in images:
            index = by_name[path.stem]
            image, masks = source.render(index, (40, 56))
            truth = root / "groundtruth" / kind / f"{path.stem}.png"
            mask = masks[source.items[index].categories.index(kind)]
            np.testing.assert_array_equal(read_binary(truth).object, mask)
            assert set(np.unique(np.array(Image.open(truth)))) == {0, 255}
            assert np.abs(load_rgb(path).array.astype(int) - image).mean() < 8


@pytest.mark.parametrize("objects", [(2, 2), (2, 5), (5, 5)])
def test_every_folder_of_a_written_set_is_full(tmp_path, objects):
    kinds = SEEN_KINDS[:5]
    root = write_procedural(tmp_path, kinds, images_per_kind=3, size=(16, 16), objects_per_image=objects)
    assert [len(list((root / "image" / kind).iterdir())) for kind in kinds] == [3] * 5


def test_writing_over_an_existing_set_is_refused(tmp_path):
    (tmp_path / "groundtruth").mkdir()
    with pytest.raises(DataError, match="already exists: choose another folder"):
        write_procedural(tmp_path)


# --- Errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["striped dsic", "rayed star"]}, "'striped dsic' is not a procedural kind: choose from"),
        ({"kinds": ["rayed star", "striped disc", "rayed star"]}, "one is named twice"),
        ({"kinds": ["rayed star", "striped disc"]}, "2 kinds for up to 3 objects"),
        ({"num_images": 0}, "num_images is 0"),
        ({"objects_per_image": (1, 2)}, "2 <= fewest <= most"),
        ({"objects_per_image": (3, 2)}, "2 <= fewest <= most"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(DataError, match=message) as caught:
        ProceduralSource(**arguments)
    assert "\n" not in str(caught.value)


def test_a_size_too_small_to_show_anything_is_refused(source):
    with pytest.raises(DataError, match="need 16 pixels"):
        source.load(0, (15, 64))


def test_a_set_without_images_is_not_written(tmp_path):
    with pytest.raises(DataError, match="images_per_kind is 0"):
        write_procedural(tmp_path / "set", images_per_kind=0)
    assert not (tmp_path / "set").exists()
