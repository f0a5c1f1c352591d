"""The three losses of a group, in the form of the authors' code and in the form the paper prints.

B images (first half paired with second half), C channels, p and q positions of the h x w grid, H x W the input.

    features (B, C, h, w) after an activation     F, with unit length per position: F^
    small co-saliency (B, 1, h, w) in (0, 1)      S~, sigmoid of the score map
    co-saliency (B, 1, H, W) in (0, 1)            S, sigmoid of the up-sampled score map
    prior (B, 1, H, W) in [0, 1]                  S^, pseudo ground truth from any saliency method

"code" takes means where "paper" takes sums, and has a sigmoid between mean and logarithm of the co-peak loss; the
weights 0.5 and 0.1 belong to "code".
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .peaks import find_peaks

Form = Literal["code", "paper"]

LEAST_CORRELATION = 1e-5  # "paper" takes a logarithm: orthogonal images give log of this instead of -inf


def normalise_features(features: Tensor) -> Tensor:
    """F^ = F / sqrt(sum_c F_c^2 + 0.01), per position: (B, C, h, w) -> the same."""
    return features / (features.square().sum(1, keepdim=True) + 0.01).sqrt()


def feature_correlation(normalised: Tensor) -> Tensor:
    """T_nm(p, q) = <F^_n(p), F^_m(q)> between all positions of all images: (B, C, h, w) -> (B, h, w, B, h, w)."""
    images, _, h, w = normalised.shape
    positions = normalised.permute(1, 0, 2, 3).flatten(1)  # (C, B h w)
    return (positions.T @ positions).reshape(images, h, w, images, h, w)


def co_peak_tensors(correlation: Tensor, small_saliency: Tensor, form: Form = "code") -> Tensor:
    """T^s_nm(p, q) = S~_n(p) S~_m(q) T_nm(p, q) (Eq. 2): one tensor (h, w, h, w) per pair of images.

    correlation (B, h, w, B, h, w), small_saliency (B, 1, h, w) -> (pairs, h, w, h, w). Pairs: image i with i + B/2
    ("code"), or every two images once ("paper").
    """
    n, m = _pairs(len(small_saliency), form)
    s = small_saliency[:, 0]
    return s[n][:, :, :, None, None] * s[m][:, None, None] * correlation[n, :, :, m]


def co_peak_loss(tensors: Tensor, form: Form = "code") -> Tensor:
    """Pull up the co-peaks: tensors (pairs, h, w, h', w') of :func:`co_peak_tensors` -> scalar.

    With m_k the mean of T^s over the co-peaks of pair k: mean_k log(1 + exp(-m_k)) ("code"), or Eq. (3) summed over
    ordered pairs, 2 sum_k -log m_k ("paper"). Which cells are co-peaks is constant in the gradient.
    """
    peaks = find_peaks(tensors, dims=4).flatten(1)
    means = (tensors.flatten(1) * peaks).sum(1) / peaks.sum(1)  # (pairs,); every array has a maximum >= its median
    if form == "code":
        return F.softplus(-means).mean()
    return -2 * means.clamp(min=LEAST_CORRELATION).log().sum()


def affinity_loss(correlation: Tensor, small_saliency: Tensor, alpha: float = 4.0, form: Form = "code") -> Tensor:
    """Similar positions should be equally salient, salient positions similar (Eq. 4 with its erratum, Eq. 5).

    With s all B h w values of S~ and T the correlation (B, h, w, B, h, w) of all positions of the batch:
    mean_ij s_i s_j (1 - T_ij) + alpha mean_ij (s_i - s_j)^2 T_ij ("code"); or, per ordered pair n != m, the sums over
    (n, m), (n, n) and (m, m) ("paper").
    """
    images, cells = len(small_saliency), small_saliency[0].numel()
    s = small_saliency.flatten()  # (B h w,)
    correlation = correlation.reshape(len(s), len(s))  # (B h w, B h w)
    terms = s[:, None] * s * (1 - correlation) + alpha * (s[:, None] - s).square() * correlation
    if form == "code":
        return terms.mean()
    blocks = terms.reshape(images, cells, images, cells).sum((1, 3))  # (B, B): l~(I_n, I_m)
    within = blocks.diagonal().sum()
    return blocks.sum() - within + 2 * (images - 1) * within


def saliency_weight(prior: Tensor) -> Tensor:
    """rho: 1 - f on the foreground S^ > mean(S^) of each image and f elsewhere, f its share. (B, 1, H, W) -> same."""
    foreground = prior > prior.mean((1, 2, 3), keepdim=True)
    share = foreground.to(prior.dtype).mean((1, 2, 3), keepdim=True)
    return torch.where(foreground, 1 - share, share)


def saliency_loss(cosaliency: Tensor, prior: Tensor, form: Form = "code") -> Tensor:
    """Eq. (6), sum over images of sum_p rho (S - S^)^2, in "code" divided by the pixels of an image."""
    total = (saliency_weight(prior) * (cosaliency - prior).square()).sum()
    return total / prior[0].numel() if form == "code" else total


def _pairs(images: int, form: Form) -> tuple[Tensor, Tensor]:
    if form == "code":
        half = images // 2
        return torch.arange(half), torch.arange(half, 2 * half)
    n, m = torch.triu_indices(images, images, offset=1)
    return n, m
