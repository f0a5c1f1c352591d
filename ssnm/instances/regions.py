"""A tree of regions: neighbouring regions merged by Ward's rule until one is left.

Legend: R regions of an image, numbered 0 .. R - 1 in a label map (H, W); D numbers describe a region. A *node* is a
set of regions, given as a row of booleans (R,).
"""

from __future__ import annotations

import heapq

import numpy as np

SAME = 0.95  # IoU above which two nodes are one proposal


def ward_nodes(vectors: np.ndarray, sizes: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All nodes of the tree, and all unions of two nodes that were neighbours at some time.

    Ward's rule: the pair is merged whose union adds least to the squared distance of pixels to their region's mean,
    |A| |B| / (|A| + |B|) * ||a - b||^2.

    Args:
        vectors: (R, D) mean description of each region.
        sizes: (R,) pixels of each region.
        edges: (E, 2) pairs of regions that touch.

    Returns:
        nodes (n, R) bool, from single regions to the largest; pairs (p, R) bool, the last (largest) ones first.
    """
    count = len(sizes)
    members = [np.eye(count, dtype=bool)[i] for i in range(count)]
    means, weights = list(vectors.astype(np.float64)), list(sizes.astype(np.float64))
    neighbours: dict[int, set[int]] = {i: set() for i in range(count)}
    heap: list[tuple[float, int, int]] = []

    def propose(first: int, second: int) -> None:
        gap = means[first] - means[second]
        share = weights[first] * weights[second] / (weights[first] + weights[second])
        heapq.heappush(heap, (share * float(gap @ gap), first, second))

    for first, second in np.unique(np.sort(edges, axis=1), axis=0).tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)
        propose(first, second)
    pairs = []
    while heap:
        _, first, second = heapq.heappop(heap)
        pairs.append(members[first] | members[second])
        if first not in neighbours or second not in neighbours:
            continue  # one of them was merged before: the union is a proposal, not a node
        new, total = len(members), weights[first] + weights[second]
        means.append((weights[first] * means[first] + weights[second] * means[second]) / total)
        weights.append(total)
        members.append(pairs.pop())
        around = (neighbours.pop(first) | neighbours.pop(second)) - {first, second}
        neighbours[new] = around
        for other in around:
            neighbours[other] -= {first, second}
            neighbours[other].add(new)
            propose(other, new)
    return np.array(members).reshape(-1, count), np.array(pairs[::-1], dtype=bool).reshape(-1, count)


def without_doubles(nodes: np.ndarray, sizes: np.ndarray, same: float = SAME) -> np.ndarray:
    """Indices of the nodes (n, R) that do not overlap an earlier one by an IoU > `same`; sizes (R,) in pixels."""
    floats = nodes.astype(np.float32)
    common = (floats * sizes) @ floats.T  # (n, n) pixels
    areas = common.diagonal()
    double = common > same * (areas[:, None] + areas[None] - common)
    kept = np.ones(len(nodes), dtype=bool)
    for index in range(len(nodes)):
        if kept[index]:
            kept[index + 1 :] &= ~double[index, index + 1 :]
    return np.flatnonzero(kept)


def touching(labels: np.ndarray) -> np.ndarray:
    """Pairs (E, 2) of regions of a label map (H, W) that share an edge of two cells."""
    across = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=1)
    down = np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=1)
    pairs = np.concatenate([across, down])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def region_means(labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Mean of each channel over each region.

    Args:
        labels: (H, W) 0 .. R - 1.
        maps: (C, h, w), of any size: taken as if resized to (H, W) bilinearly (pixel centres, edges repeated).

    Returns:
        (R, C).
    """
    shares = _bilinear_shares(labels, maps.shape[1:])  # (R, h w), rows sum to 1
    return shares @ maps.reshape(len(maps), -1).T


def _bilinear_shares(labels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """How much each cell of a coarse grid counts in the mean of a bilinearly enlarged map over each region."""
    regions, cells = int(labels.max()) + 1, grid[0] * grid[1]
    (low_r, high_r, part_r), (low_c, high_c, part_c) = (_taps(n, g) for n, g in zip(labels.shape, grid))
    shares = np.zeros(regions * cells)
    for row, row_weight in ((low_r, 1 - part_r), (high_r, part_r)):
        for column, column_weight in ((low_c, 1 - part_c), (high_c, part_c)):
            index = labels.astype(np.int64) * cells + row[:, None] * grid[1] + column[None]
            weight = np.broadcast_to(row_weight[:, None] * column_weight[None], labels.shape)
            shares += np.bincount(index.ravel(), weight.ravel(), minlength=len(shares))
    shares = shares.reshape(regions, cells)
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)


def _taps(length: int, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper cell, and the upper one's weight, of every pixel centre along one axis."""
    position = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), position - low
