"""Region trees against a literal version of Ward's rule; what the built-in generator guarantees."""

import numpy as np
import pytest

from ssnm.errors import ConfigError, DataError, MissingPackageError
from ssnm.instances.proposals import ProposalSettings, cut, distinct, propose
from ssnm.instances.regions import region_means, touching, ward_nodes, without_doubles


def literal_ward(vectors: np.ndarray, sizes: np.ndarray, edges: np.ndarray) -> list[tuple[int, ...]]:
    """Merged sets in order: all pairs that touch are compared anew each time."""
    sets = [{i} for i in range(len(sizes))]
    near = {frozenset(edge) for edge in edges.tolist()}
    merged = []
    while len(sets) > 1:
        def cost(a, b):
            (na, ma), (nb, mb) = (
                (sizes[list(s)].sum(), np.average(vectors[list(s)], axis=0, weights=sizes[list(s)])) for s in (a, b)
            )
            return na * nb / (na + nb) * ((ma - mb) ** 2).sum()

        pairs = [(cost(a, b), i, j) for i, a in enumerate(sets) for j, b in enumerate(sets)
                 if i < j and any(frozenset((x, y)) in near for x in a for y in b)]  # fmt: skip
        _, i, j = min(pairs)
        union = sets[i] | sets[j]
        sets = [s for k, s in enumerate(sets) if k not in (i, j)] + [union]
        merged.append(tuple(sorted(union)))
    return merged


def test_nodes_are_those_of_wards_rule_literally():
    draw = np.random.default_rng(0)
    labels = np.arange(12).reshape(3, 4)
    vectors, sizes = draw.random((12, 3)), draw.integers(1, 9, 12)
    nodes, pairs = ward_nodes(vectors, sizes, touching(labels))
    found = [tuple(np.flatnonzero(node).tolist()) for node in nodes]
    assert found[:12] == [(i,) for i in range(12)]
    assert found[12:] == literal_ward(vectors, sizes, touching(labels))
    assert len({*found, *(tuple(np.flatnonzero(p).tolist()) for p in pairs)}) > len(found)


def test_pairs_are_unions_of_neighbours():
    labels = np.array([[0, 0, 1, 2]])
    assert touching(labels).tolist() == [[0, 1], [1, 2]]
    nodes, pairs = ward_nodes(np.array([[0.0], [0.1], [5.0]]), np.array([2, 1, 1]), touching(labels))
    assert nodes.tolist()[3:] == [[True, True, False], [True, True, True]] and pairs.tolist() == [[False, True, True]]


def test_means_over_regions_are_those_of_the_bilinearly_enlarged_map():
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 4, (9, 12))
    maps = draw.random((2, 3, 4))
    rows, columns = (np.clip((np.arange(n) + 0.5) * g / n - 0.5, 0, g - 1) for n, g in ((9, 3), (12, 4)))
    large = np.stack([[[_bilinear(one, r, c) for c in columns] for r in rows] for one in maps])
    expected = np.array([[one[labels == k].mean() for one in large] for k in range(4)])
    np.testing.assert_allclose(region_means(labels, maps), expected, atol=1e-12)


def _bilinear(grid: np.ndarray, row: float, column: float) -> float:
    r, c = int(row), int(column)
    below, right = min(r + 1, grid.shape[0] - 1), min(c + 1, grid.shape[1] - 1)
    top = grid[r, c] * (1 - column + c) + grid[r, right] * (column - c)
    return top * (1 - row + r) + (grid[below, c] * (1 - column + c) + grid[below, right] * (column - c)) * (row - r)


def test_a_node_that_overlaps_an_earlier_one_almost_wholly_is_a_double():
    nodes = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=bool)
    assert without_doubles(nodes, np.array([60, 60, 1])).tolist() == [0, 2]


def test_distinct_masks_keep_their_order_and_the_limit():
    masks = np.array([[[1, 0]], [[0, 0]], [[1, 0]], [[0, 1]], [[1, 1]]], dtype=bool)
    assert distinct([masks[:2], masks[2:]], 10).tolist() == [[[True, False]], [[False, True]], [[True, True]]]
    assert len(distinct([masks], 2)) == 2
    assert distinct([masks], 10, smallest=2).tolist() == [[[True, True]]]
    assert distinct([masks[:0]], 1).shape == (0, 1, 2)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two touching red squares of unlike brightness on grey; image (48, 64, 3) and their masks."""
    image = np.full((48, 64, 3), 100, np.uint8)
    masks = np.zeros((2, 48, 64), dtype=bool)
    masks[0, 10:30, 12:30], masks[1, 10:30, 30:50] = True, True
    image[masks[0]], image[masks[1]] = (220, 30, 30), (150, 10, 10)
    return image, masks


def test_the_generator_offers_the_objects_and_their_union(scene):
    pytest.importorskip("skimage")
    image, masks = scene
    offered = propose(image, np.ones((2, 3, 4)), settings=ProposalSettings(scales=(50.0,), min_region=20))
    for wanted in (*masks, masks.any(axis=0)):
        overlap = (offered & wanted).sum(axis=(1, 2)) / (offered | wanted).sum(axis=(1, 2))
        assert overlap.max() > 0.9
    assert offered.any(axis=(1, 2)).all() and len(np.unique(offered.reshape(len(offered), -1), axis=0)) == len(offered)


def test_no_more_proposals_than_the_limit(scene):
    pytest.importorskip("skimage")
    settings = ProposalSettings(scales=(20.0, 50.0), min_region=5, limit=7)
    assert len(propose(scene[0], np.ones((2, 3, 4)), [scene[1][0].astype(float)], settings=settings)) == 7


def test_a_saliency_that_joins_two_objects_is_cut_at_the_peaks(scene):
    pytest.importorskip("skimage")
    _, masks = scene
    rows, columns = np.mgrid[:48, :64]
    saliency = masks.any(axis=0) * (1 - 0.01 * np.minimum(abs(columns - 20), abs(columns - 40)))
    pieces = cut(saliency, np.array([[20.0, 20.0], [20.0, 40.0]]))
    for mask in masks:
        assert ((pieces & mask).sum(axis=(1, 2)) / (pieces | mask).sum(axis=(1, 2))).max() > 0.9
    assert cut(np.zeros((5, 5))).shape == (0, 5, 5)


def test_wrong_arguments_are_one_clear_line(scene, monkeypatch):
    image = scene[0]
    with pytest.raises(DataError, match="uint8"):
        propose(image / 255.0, np.ones((2, 3, 4)))
    with pytest.raises(DataError, match="features"):
        propose(image, np.ones((3, 4)))
    with pytest.raises(DataError, match="saliency of the image's size"):
        propose(image, np.ones((2, 3, 4)), [np.ones((3, 4))])
    with pytest.raises(ConfigError, match="scales"):
        ProposalSettings(scales=())
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(MissingPackageError, match=r"\.\[instances\]"):
        propose(image, np.ones((2, 3, 4)))
