"""A group steered by images whose object is known: one mask, drawn by hand, corrects all the others.

The pixels of the reference's object alone make the statistics: gamma is pooled over them in place of the whole images
of the whole group, and the spatial mask says how far each position lies on the object's side of the reference's own
background. R references, N images, D d channels, h w size of the coarsest maps, P = h*w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import DataError
from ..files.given import given_image
from ..files.listing import shorten
from ..metrics.ranking import cell_shares
from ..nn.resize import resize_area
from .records import ImageCodes, Modulation
from .spectral import unit_descriptors


@dataclass(frozen=True)
class ReferenceCodes:
    """What references say: indicators (R, d) of their objects' pixels, or None; phi (R, D, h, w) or None; shares
    (R, h, w) of each position that the object covers."""

    indicators: Tensor | None
    phi: Tensor | None
    shares: Tensor

    @classmethod
    def join(cls, parts: Sequence[ReferenceCodes]) -> ReferenceCodes:
        joined = lambda tensors: None if tensors[0] is None else torch.cat(tensors)  # noqa: E731
        return cls(*(joined([getattr(p, name) for p in parts]) for name in ("indicators", "phi", "shares")))


def check_reference(reference: Mapping[Any, Any], names: Sequence[str]) -> dict[int, np.ndarray]:
    """{name or index: mask} -> {index: (H, W) bool}.

    Raises:
        DataError: an image that is not there or is there twice, a mask that is no mask, or one without an object.
    """
    masks: dict[int, np.ndarray] = {}
    for key, mask in reference.items():
        index = _index_of(key, names)
        if index in masks:
            raise DataError(f"reference: image {index} ('{names[index]}') has two masks; give one")
        masks[index] = as_mask(mask, f"reference '{key}'")
    return masks


def _index_of(key: Any, names: Sequence[str]) -> int:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if 0 <= key < len(names):
            return int(key)
        raise DataError(f"reference: no image {key}; there are {len(names)}, counted from 0")
    places = [i for i, name in enumerate(names) if name == str(key)]
    if not places:
        raise DataError(f"reference: no image '{key}'; the images are {shorten(list(names))}")
    if len(places) > 1:
        raise DataError(f"reference: {len(places)} images are named '{key}'; give the index of the one that is meant, "
                        f"one of {places}")  # fmt: skip
    return places[0]


def as_mask(mask: Any, name: str) -> np.ndarray:
    """(H, W) bool or 0/255 -> bool.

    Raises:
        DataError: another shape, other values, or no pixel of the object.
    """
    array = np.asarray(given_image(mask, name)) if not isinstance(mask, np.ndarray) else mask
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"{name}: a mask (H, W) was expected, got {array.shape or type(mask).__name__}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 255)).all():
        raise DataError(f"{name}: a mask of bool or of 0 and 255 was expected, got {array.dtype} with other values")
    if not array.any():
        raise DataError(f"{name}: the mask is empty; mark the object's pixels, or leave the reference out")
    return array > 0


def encode_reference(
    model: nn.Module, cfms: Sequence[Tensor], codes: ImageCodes, place: int, mask: np.ndarray
) -> ReferenceCodes:
    """The codes of the image at `place` of a chunk, seen through its mask (H, W) bool."""
    coarsest = cfms[-1][place : place + 1]  # (1, d, h, w)
    shares = torch.from_numpy(cell_shares(mask, tuple(coarsest.shape[-2:]))).to(coarsest)[None]  # (1, h, w)
    indicators = None if model.semantic is None else _indicators(model, coarsest, shares)
    return ReferenceCodes(indicators, None if codes.phi is None else codes.phi[place : place + 1], shares)


def _indicators(model: nn.Module, coarsest: Tensor, shares: Tensor) -> Tensor:
    """coarsest maps (R, d, h, w), shares (R, h, w) -> indicators (R, d) of what the shares cover."""
    return model.semantic.image_pooling(coarsest.flatten(2).transpose(1, 2), shares.flatten(1))


def modulate_by_reference(model: nn.Module, codes: ImageCodes, reference: ReferenceCodes) -> Modulation:
    """The modulation of one group of N images, steered by its references."""
    gamma = logits = mask = None
    if model.semantic is not None:
        gamma, logits = model.semantic(reference.indicators[None])
    if model.spatial is not None:
        mask = side_of_object(codes.phi[None], reference.phi[None], reference.shares[None], model.spatial.scale)
    return Modulation(spatial_mask=mask, semantic_vector=gamma, category_logits=logits)


def steered(
    model: nn.Module, cfms: Sequence[Tensor], codes: ImageCodes, modulation: Modulation, places: Tensor, masks: Tensor
) -> Modulation:
    """The modulation of B groups in training, some of which one image steers.

    places (B,) long: which image of the group, -1 for a group without one; masks (B, N, H, W) of all images. One graph
    whatever the places are: every group is steered, and those without a reference keep what they had.
    """
    count = masks.shape[1]
    rows = torch.arange(len(places), device=places.device) * count + places.clamp(min=0)
    coarsest = cfms[-1][rows]
    known = places >= 0
    chosen = lambda own, plain: torch.where(known[(...,) + (None,) * (plain.ndim - 1)], own, plain)  # noqa: E731
    shares = resize_area(masks.flatten(0, 1)[rows][:, None], coarsest.shape[-2:])[:, 0]
    shares = chosen(shares, torch.ones_like(shares))  # (B, h, w): an empty mask would make the statistics NaN
    told = {}
    if model.semantic is not None:
        gamma, logits = model.semantic(_indicators(model, coarsest, shares)[:, None])
        told |= {"semantic_vector": gamma, "category_logits": logits}
    if model.spatial is not None:
        phi = codes.phi.unflatten(0, (-1, count))
        told["spatial_mask"] = side_of_object(phi, codes.phi[rows][:, None], shares[:, None], model.spatial.scale)
    return replace(modulation, **{name: chosen(own, getattr(modulation, name)) for name, own in told.items()})


@torch.no_grad()  # as through the eigenvector
def side_of_object(phi: Tensor, known: Tensor, shares: Tensor, scale: str) -> Tensor:
    """phi (B, N, D, h, w) -> spatial mask (B, N, h, w), float32: each unit descriptor along the line from the mean of
    the references' background to that of their object, zero half-way, scaled as the clustering's mask is. known
    (B, R, D, h, w), shares (B, R, h, w): phi of the references and how much of each position their objects cover."""
    with torch.autocast(phi.device.type, enabled=False):
        descriptors = unit_descriptors(known.float())  # (B, R*P, D)
        inside = shares.float().flatten(1)[..., None]
        mean = lambda w: (descriptors * w).sum(1, keepdim=True) / w.sum(1, keepdim=True).clamp(min=1e-6)  # noqa: E731
        object_mean, other_mean = mean(inside), mean(1 - inside)
        from_middle = unit_descriptors(phi.float()) - 0.5 * (object_mean + other_mean)
        along = (from_middle * (object_mean - other_mean)).sum(-1)  # (B, N*P); no product that TF32 would round
        along = along / along.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
        along = along if scale == "rms" else along / along.shape[1] ** 0.5
        return along.unflatten(1, (phi.shape[1], *phi.shape[-2:]))
