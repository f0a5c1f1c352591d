"""Proposals without labels: masks among which the instances are looked for.

Sources, in the order in which they are kept: masks cut out of the saliency (components at several levels, split by a
watershed at the peaks), the nodes of region trees, the unions of neighbouring nodes, and OpenCV's selective search
where that is installed. All work at the size of the image that is given; callers pass one of at most `WORKING_SIDE`
pixels and enlarge only the masks that are chosen.

scikit-image (the extra `instances`) draws the first regions and floods the watershed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError, MissingPackageError
from ..files.components import component_masks
from ..ranges import BELOW_ONE, NOT_NEGATIVE, POSITIVE, require, values
from .regions import region_means, touching, ward_nodes, without_doubles

WORKING_SIDE = 375
LEVELS = (0.3, 0.5, 0.7, 0.9)
AT_ONCE = 100  # nodes that are painted together


@dataclass(frozen=True)
class ProposalSettings:
    """What the built-in generator draws.

    scales: of the first regions (Felzenszwalb's k); more scales, more proposals and time. min_region: pixels of the
    smallest region. colour: weight of the colour beside the features. from_saliency: masks cut out of the saliency
    too. selective_search: OpenCV's too, where it is installed. limit: at most so many proposals. min_share: of the
    image, the smallest proposal.
    """

    scales: tuple[float, ...] = (50.0, 100.0, 200.0)
    min_region: int = 60
    colour: float = 1.0
    from_saliency: bool = True
    selective_search: bool = True
    limit: int = 2000
    min_share: float = 1e-3

    def __post_init__(self) -> None:
        if not self.scales:
            raise ConfigError("proposals.scales must name one or more scales, got none")
        require({f"proposals.scales.{i}": scale for i, scale in enumerate(self.scales)}, *POSITIVE)
        require(values("proposals", self, "min_region", "limit"), *POSITIVE)
        require(values("proposals", self, "colour"), *NOT_NEGATIVE)
        require(values("proposals", self, "min_share"), *BELOW_ONE)



def propose(
    image: np.ndarray,
    features: np.ndarray,
    saliency: Sequence[np.ndarray] = (),
    peaks: np.ndarray | None = None,
    settings: ProposalSettings = ProposalSettings(),
) -> np.ndarray:
    """Proposals of one image.

    Args:
        image: (H, W, 3) uint8 RGB, small.
        features: (C, h, w) of a backbone, any grid.
        saliency: maps (H, W) in [0, 1] to cut masks out of, such as the prior and the co-saliency.
        peaks: (K, 2) row and column in pixels, where the watershed starts; None = no watershed.
        settings: see there.

    Returns:
        (M, H, W) bool, M <= settings.limit, no two equal, none empty.

    Raises:
        MissingPackageError: scikit-image is not installed.
        DataError: arrays that do not belong together.
    """
    _check(image, features, saliency)
    pieces = _pieces(image, features, saliency, peaks, settings)
    return distinct(pieces, settings.limit, max(1, settings.min_share * image.shape[0] * image.shape[1]))


def _pieces(image, features, saliency, peaks, settings: ProposalSettings) -> Iterator[np.ndarray]:
    """The proposals of each source, (n, H, W) bool, in the order in which they are kept; made when they are asked for,
    since thousands of masks are hundreds of megabytes."""
    if settings.from_saliency:
        yield from (cut(one, peaks) for one in saliency)
    trees = [_tree(image, features, scale, settings) for scale in settings.scales]
    share = settings.limit // len(trees)  # of each scale, so that none crowds out the others
    wanted = [(labels, nodes) for labels, nodes, _ in trees] + [(labels, pairs[:share]) for labels, _, pairs in trees]
    for labels, nodes in wanted:
        yield from (_paint(labels, nodes[i : i + AT_ONCE]) for i in range(0, len(nodes), AT_ONCE))
    if settings.selective_search:
        yield _selective_search(image, trees[0][0])


def cut(saliency: np.ndarray, peaks: np.ndarray | None = None, levels: Sequence[float] = LEVELS) -> np.ndarray:
    """Masks that a saliency map suggests: its pieces above each level, and those pieces split at the peaks.

    Levels are shares of the map's maximum; one more is its mean plus one standard deviation.

    Args:
        saliency: (H, W) in [0, 1]; peaks: (K, 2) row and column, or None.

    Returns:
        (n, H, W) bool.
    """
    top = float(saliency.max(initial=0.0))
    if top <= 0:
        return np.zeros((0, *saliency.shape), dtype=bool)
    cuts = sorted({*(level * top for level in levels), float(saliency.mean() + saliency.std())})
    found = []
    for level in cuts:
        mask = saliency >= level
        found.append(component_masks(mask, min_area=4))
        if peaks is not None and len(peaks) > 1:
            found.append(_split(saliency, mask, peaks))
        found.append(_split_by_width(mask))
    return np.concatenate(found)


def distinct(pieces: Iterable[np.ndarray], limit: int, smallest: float = 1) -> np.ndarray:
    """The first `limit` masks of all pieces (n, H, W) that cover `smallest` pixels and differ from all before them."""
    seen: dict[bytes, None] = {}  # packed masks, in their order
    shape: tuple[int, ...] = (0, 0)
    for piece in pieces:
        shape = piece.shape[1:]
        for mask in piece:
            if len(seen) < limit and np.count_nonzero(mask) >= smallest:
                seen.setdefault(np.packbits(mask).tobytes())
        if len(seen) == limit:
            break
    pixels = shape[0] * shape[1]
    packed = np.frombuffer(b"".join(seen), np.uint8).reshape(len(seen), -(-pixels // 8))
    return np.unpackbits(packed, axis=1, count=pixels).view(bool).reshape(len(seen), *shape)


def import_skimage():
    """scikit-image's segmentation module.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from skimage import segmentation
    except ImportError:
        raise MissingPackageError(
            'the built-in proposals need scikit-image, which is not installed; run: pip install -e ".[instances]", '
            "or give proposals of your own"
        ) from None
    return segmentation


def _tree(image, features, scale: float, settings: ProposalSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label map (H, W), nodes (n, R), pairs (p, R) of one scale, doubles dropped."""
    labels = import_skimage().felzenszwalb(image, scale=scale, sigma=0.8, min_size=settings.min_region)
    sizes = np.bincount(labels.ravel())
    vectors = np.concatenate(
        [_unit(region_means(labels, features)), settings.colour * _colour_means(labels, image)], axis=1
    )
    nodes, pairs = ward_nodes(vectors, sizes, touching(labels))
    kept = without_doubles(np.concatenate([nodes, pairs]), sizes)
    first = kept < len(nodes)
    return labels, nodes[kept[first]], pairs[kept[~first] - len(nodes)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _colour_means(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean RGB of each region in [0, 1]: (R, 3)."""
    areas = np.bincount(labels.ravel())
    sums = [np.bincount(labels.ravel(), image[..., c].ravel()) for c in range(3)]
    return np.stack(sums, axis=1) / (255.0 * areas[:, None])


def _paint(labels: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Nodes (n, R) -> masks (n, H, W)."""
    return np.take(nodes, labels.ravel(), axis=1).reshape(len(nodes), *labels.shape)


def _split(saliency: np.ndarray, mask: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """The basins of the watershed on -saliency that starts at the peaks, within a mask."""
    markers = np.zeros(mask.shape, dtype=np.int32)
    spots = np.clip(np.round(peaks).astype(int), 0, np.array(mask.shape) - 1)
    markers[spots[:, 0], spots[:, 1]] = np.arange(1, len(spots) + 1)
    basins = import_skimage().watershed(-saliency, markers * mask, mask=mask)
    return _basin_masks(basins)


def _split_by_width(mask: np.ndarray) -> np.ndarray:
    """A mask split at its narrow places: watershed on the distance to its edge."""
    segmentation = import_skimage()
    from scipy.ndimage import distance_transform_edt  # scikit-image brings scipy

    width = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    cores = component_masks(width >= 0.5 * width.max(initial=0.0)) if mask.any() else mask[None][:0]
    if len(cores) < 2:
        return np.zeros((0, *mask.shape), dtype=bool)
    markers = (cores * np.arange(1, len(cores) + 1)[:, None, None]).sum(axis=0).astype(np.int32)
    return _basin_masks(segmentation.watershed(-width, markers, mask=mask))


def _basin_masks(basins: np.ndarray) -> np.ndarray:
    numbers = np.unique(basins)
    return basins[None] == numbers[numbers > 0][:, None, None]


def _selective_search(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """OpenCV's boxes as masks: the regions that lie in a box by more than half. Nothing where OpenCV lacks it."""
    try:
        from cv2 import ximgproc

        search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    except (ImportError, AttributeError):
        return np.zeros((0, *labels.shape), dtype=bool)
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    search.switchToSelectiveSearchFast()
    boxes = search.process()  # (n, 4): x, y, width, height
    areas = np.bincount(labels.ravel())
    inside = np.zeros((len(boxes), len(areas)), dtype=bool)
    for row, (x, y, width, height) in zip(inside, boxes):
        part = labels[y : y + height, x : x + width]
        row[:] = np.bincount(part.ravel(), minlength=len(areas)) > 0.5 * areas
    return _paint(labels, np.unique(inside, axis=0))


def _check(image: np.ndarray, features: np.ndarray, saliency: Sequence[np.ndarray]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"proposals: an RGB image (H, W, 3) of uint8 is needed, got {image.dtype} {image.shape}")
    if features.ndim != 3:
        raise DataError(f"proposals: features (C, h, w) are needed, got {features.shape}")
    for one in saliency:
        if one.shape != image.shape[:2]:
            raise DataError(f"proposals: saliency of the image's size {image.shape[:2]} is needed, got {one.shape}")
