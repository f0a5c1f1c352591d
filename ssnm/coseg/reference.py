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
    model: nn.Module, cfms: Sequence[Tensor], codes: ImageCodes, place: int, mask: np.ndarray | Tensor
) -> ReferenceCodes:
    """The codes of the image at `place` of a chunk, seen through its mask (H, W), bool, or 0 and 1 on the device."""
    coarsest = cfms[-1][place : place + 1]  # (1, d, h, w)
    if isinstance(mask, Tensor):
        shares = resize_area(mask[None], coarsest.shape[-2:]).to(coarsest)  # (1, h, w)
    else:
        shares = torch.from_numpy(cell_shares(mask, tuple(coarsest.shape[-2:]))).to(coarsest)[None]
    indicators = None
    if model.semantic is not None:
        indicators = model.semantic.image_pooling(coarsest.flatten(2).transpose(1, 2), shares.flatten(1))
    return ReferenceCodes(indicators, None if codes.phi is None else codes.phi[place : place + 1], shares)


def modulate_by_reference(model: nn.Module, codes: ImageCodes, reference: ReferenceCodes) -> Modulation:
    """The modulation of one group of N images, steered by its references."""
    gamma = logits = mask = None
    if model.semantic is not None:
        gamma, logits = model.semantic(reference.indicators[None])
    if model.spatial is not None:
        with torch.no_grad():  # as the eigenvector's
            mask = side_of_object(codes.phi, reference, model.spatial.scale)
    return Modulation(spatial_mask=mask, semantic_vector=gamma, category_logits=logits)


def steered(
    model: nn.Module, cfms: Sequence[Tensor], codes: ImageCodes, modulation: Modulation, group_size: int,
    references: Mapping[int, tuple[int, Tensor]],
) -> Modulation:
    """The modulation of B groups, of which `references` {group: (place, mask (H, W))} are steered by one image."""
    for group, (place, mask) in references.items():
        of_group = slice(group * group_size, (group + 1) * group_size)
        phi, indicators = (None if c is None else c[of_group] for c in (codes.phi, codes.indicators))
        reference = encode_reference(model, cfms, codes, of_group.start + place, mask)
        own = modulate_by_reference(model, replace(codes, phi=phi, indicators=indicators), reference)
        put = lambda name: _put(getattr(modulation, name), getattr(own, name), group)  # noqa: E731, B023
        modulation = replace(modulation, **{name: put(name) for name in _STEERED})
    return modulation


_STEERED = ("spatial_mask", "semantic_vector", "category_logits")


def _put(values: Tensor | None, own: Tensor | None, group: int) -> Tensor | None:
    """values (B, ...) with own (1, ...) at the place of one group."""
    return None if values is None else torch.cat([values[:group], own.to(values.dtype), values[group + 1 :]])


def side_of_object(phi: Tensor, reference: ReferenceCodes, scale: str) -> Tensor:
    """phi (N, D, h, w) -> spatial mask (1, N, h, w): each unit descriptor along the line from the mean of the
    references' background to that of their object, zero half-way, scaled as the clustering's mask is."""
    known = unit_descriptors(reference.phi[None])[0]  # (R*P, D)
    inside = reference.shares.flatten()[:, None].to(known)
    mean = lambda w: (known * w).sum(0) / w.sum().clamp(min=1e-6)  # noqa: E731
    object_mean, other_mean = mean(inside), mean(1 - inside)
    line = object_mean - other_mean
    along = unit_descriptors(phi[None])[0] @ line - 0.5 * (object_mean + other_mean) @ line  # (N*P,)
    along = along / along.square().mean().sqrt().clamp(min=1e-12)
    along = along if scale == "rms" else along / len(along) ** 0.5
    return along.reshape(1, len(phi), *phi.shape[-2:])
