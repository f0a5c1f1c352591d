"""Both modulators in numpy: what happens between the encoder and the head, where the images of a group see each other.

Second-order pooling, orientation and agreement are the definitions that torch uses; the layers around them and the
eigenvector are written anew, and tests hold them against torch. Letters as in :mod:`ssnm.coseg.model`: N images in a
group, D descriptor channels, P = h*w positions, L co-categories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..orientation import orient
from ..second_order import second_order_matrix, signed_sqrt

ROWS = 16384  # rows factorised at a time: bounds the memory of a large group
ROUNDING_FLOOR = 1e-6  # times M: below it there is nothing to cluster, as in ssnm/coseg/spectral.py
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"none": lambda x: x, "relu": lambda x: np.maximum(x, 0)}


def unit_descriptors(maps: np.ndarray) -> np.ndarray:
    """(N, D, h, w) -> (N*h*w, D) float32, rows of unit length; a row that is zero stays zero."""
    rows = np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]).astype(np.float32, copy=False)
    squared = np.square(rows).sum(-1, keepdims=True)
    zero = squared <= 1e-24
    return np.where(zero, 0, rows / np.sqrt(np.where(zero, 1, squared)))


def leading_eigenvector(descriptors: np.ndarray) -> np.ndarray:
    """Eigenvector of G = X^T X - 1 1^T for its algebraically largest eigenvalue (Eq. 10), up to its sign.

    With B = [X^T, 1] (M x (D+1)), J = diag(1, .., 1, -1) and B = Q R, G = B J B^T = Q (R J R^T) Q^T: the eigenvector u
    of the small matrix gives B J R^T u. Q is never formed, R is gathered a block of rows at a time.

    Args:
        descriptors: (M, D), rows of unit length or zero.

    Returns:
        (M,) float64 of unit length; NaN where a descriptor is.
    """
    count, channels = descriptors.shape
    if not np.isfinite(descriptors).all():
        return np.full(count, np.nan)
    blocks = [descriptors[begin : begin + ROWS] for begin in range(0, count, ROWS)]
    r = np.empty((0, channels + 1))
    for block in blocks:
        r = np.linalg.qr(np.vstack([r, _with_ones(block)]), mode="r")
    sign = np.ones(channels + 1)
    sign[-1] = -1
    values, vectors = np.linalg.eigh(r * sign @ r.T)
    direction = sign * (r.T @ vectors[:, -1])
    vector = np.concatenate([_with_ones(block) @ direction for block in blocks])
    length = np.linalg.norm(vector)
    if length == 0 or values[-1] < ROUNDING_FLOOR * count:
        return np.full(count, count**-0.5)
    return vector / length


def _with_ones(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float64, copy=False)


@dataclass(frozen=True)
class SpatialModulator:
    """f_spa (Eq. 6-10); the arguments are those of :class:`ssnm.coseg.model.SpatialModulator`."""

    orientation: str
    scale: str

    def __call__(self, phi: np.ndarray) -> np.ndarray:
        """phi (N, D, h, w) of one group -> spatial masks (N, h, w) float32."""
        vector = leading_eigenvector(unit_descriptors(phi)).astype(np.float32)
        mask = orient(vector.reshape(1, len(phi), *phi.shape[-2:]), self.orientation)[0].astype(np.float32)
        return mask * np.float32(vector.size**0.5) if self.scale == "rms" else mask


@dataclass(frozen=True)
class SecondOrderPooling:
    """SP (Figure 4). weights: `reduce.weight`, `reduce.bias`, `expand.weight`, `expand.bias`, as torch's Linear."""

    weights: Mapping[str, np.ndarray]
    activation: str
    centred: bool
    normalisation: str

    def __call__(self, features: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """features (B, P, d), weights (B, P) of the positions -> (B, out)."""
        reduced = ACTIVATIONS[self.activation](_linear(features, self.weights, "reduce"))
        matrix = second_order_matrix(reduced.swapaxes(1, 2), self.centred, weights)
        if self.normalisation == "signed_sqrt":
            matrix = signed_sqrt(matrix)
        return _linear(matrix.reshape(len(matrix), -1).astype(np.float32), self.weights, "expand")


@dataclass(frozen=True)
class SemanticModulator:
    """f_sem (Eq. 3, 11, 12); see :class:`ssnm.coseg.model.SemanticModulator`."""

    image_pooling: SecondOrderPooling
    group_pooling: SecondOrderPooling
    classifier: Mapping[str, np.ndarray]
    gamma_activation: str

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], gamma_activation: str, **pooling) -> SemanticModulator:
        """From the arrays of the torch module, by their names there. Raises KeyError where one is missing."""
        part = lambda start: {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}  # noqa: E731
        poolings = [SecondOrderPooling(part(f"{name}_pooling."), **pooling) for name in ("image", "group")]
        return cls(*poolings, part("classifier."), gamma_activation)

    @property
    def centred(self) -> bool:
        return self.image_pooling.centred

    def indicators(self, coarsest: np.ndarray) -> np.ndarray:
        """The coarsest maps (N, d, h, w) -> one indicator per image (N, d)."""
        return self.image_pooling(coarsest.reshape(*coarsest.shape[:2], -1).swapaxes(1, 2))

    def __call__(self, indicators: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """indicators (B, N, d), weights (B, N) of the images -> gamma (B, D), category logits (B, L)."""
        gamma = ACTIVATIONS[self.gamma_activation](self.group_pooling(indicators, weights))
        return gamma, gamma @ self.classifier["weight"].T + self.classifier["bias"]


def _linear(x: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
