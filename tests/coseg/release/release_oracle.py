"""A literal, slow transcription of the release's specification, on the release's own parameter names.

One group, one image, one level at a time, with autograd and torch.optim.Adam in the solver: nothing is shared
with the package. It is what the tests hold the fast model against.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]

# (index in the feature list, input channels, output channels); a batch norm follows at index + 1
CONVOLUTIONS = (
    (0, 3, 64), (3, 64, 64), (7, 64, 128), (10, 128, 128), (14, 128, 256), (17, 256, 256), (20, 256, 256),
    (24, 256, 512), (27, 512, 512), (30, 512, 512), (34, 512, 512), (37, 512, 512), (40, 512, 512),
)  # fmt: skip
POOLS = (6, 13, 23, 33, 43)
TAPS = (13, 23, 33, 43)


def random_weights(seed: int = 0, coarsest_threshold: float = 0.0) -> Weights:
    """Weights under the release's names that keep activations of order 1.

    coarsest_threshold: taken off the coarsest level before its ReLU. The larger it is, the fewer channels of
    a descriptor are alive, the further descriptors of different image contents lie apart and the larger the
    leading eigenvalue is.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}

    def layer(name: str, shape: tuple[int, ...], outputs: int, fan_in: int, gain: float = 2.0) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * math.sqrt(gain / fan_in)
        weights[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    for index, inputs, outputs in CONVOLUTIONS:
        layer(f"base.{index}", (outputs, inputs, 3, 3), outputs, 9 * inputs)
        norm = f"base.{index + 1}"
        weights[f"{norm}.weight"] = 0.5 + torch.rand(outputs, generator=generator)
        weights[f"{norm}.bias"] = 0.2 * torch.randn(outputs, generator=generator)
        weights[f"{norm}.running_mean"] = 0.2 * torch.randn(outputs, generator=generator)
        weights[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=generator)
    for k, inputs in enumerate((128, 256, 512, 512)):
        layer(f"incr_channel1.{k}", (512, inputs, 3, 3), 512, 9 * inputs, gain=1.0)
        layer(f"incr_channel2.{k}", (512, 512, 3, 3), 512, 9 * 512, gain=1.0)
    weights["incr_channel2.3.bias"] -= coarsest_threshold
    layer("sp1.0", (64, 512, 1, 1), 64, 512, gain=0.2)
    layer("sp2.0", (32, 4096, 1, 1), 32, 4096, gain=0.2)
    layer("cls_m.0", (512, 1024), 512, 1024, gain=1e-4)
    layer("cls.0", (78, 512), 78, 512)
    layer("concat4.0", (512, 512, 1, 1), 512, 512)
    layer("concat4.2", (512, 512, 3, 3), 512, 9 * 512)
    layer("concat4.4", (512, 512, 4, 4), 512, 4 * 512, gain=1.0)
    for twin in ("concat3", "concat2"):
        for key in [k for k in weights if k.startswith("concat4.")]:
            weights[key.replace("concat4", twin)] = weights[key].clone()
    layer("concat1.0", (512, 512, 1, 1), 512, 512)
    layer("concat1.2", (512, 512, 3, 3), 512, 9 * 512)
    layer("mask.0", (2, 512, 3, 3), 2, 9 * 512, gain=1.0)
    layer("mask.1", (2, 2, 8, 8), 2, 8, gain=0.1)
    return weights


def normalise(image: Tensor, grey: bool) -> Tensor:
    """(3, 224, 224) in [0, 1]; of a grey image only the first channel is read, and fills all three."""
    if grey:
        single = (image[0] - 0.449) / 0.226
        return torch.stack([single, single, single])
    channels = zip(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return torch.stack([(channel - mean) / std for channel, mean, std in channels])


def base(w: Weights, x: Tensor) -> list[Tensor]:
    """(5, 3, 224, 224) normalised -> pool2, pool3, pool4, pool5."""
    convolutions = {index for index, _, _ in CONVOLUTIONS}
    taps = []
    for index in range(44):
        if index in convolutions:
            x = F.conv2d(x, w[f"base.{index}.weight"], w[f"base.{index}.bias"], padding=1)
            n = f"base.{index + 1}"
            mean, variance = w[f"{n}.running_mean"], w[f"{n}.running_var"]
            x = F.batch_norm(x, mean, variance, w[f"{n}.weight"], w[f"{n}.bias"], training=False, eps=1e-5)
            x = torch.relu(x)
        elif index in POOLS:
            x = F.max_pool2d(x, kernel_size=2, stride=2)
        if index in TAPS:
            taps.append(x)
    return taps


def spatial_solver(coarsest: Tensor) -> Tensor:
    """X3 (5, 512, 7, 7) -> s (5, 1, 7, 7) by 200 steps of torch's Adam on the penalised objective."""
    rows = [coarsest[n, :, y, x] for n in range(5) for y in range(7) for x in range(7)]
    descriptors = torch.stack([row / row.norm() for row in rows])  # (245, 512)
    gram = descriptors @ descriptors.t() - 1
    s = torch.full((245,), 1 / math.sqrt(245), requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.01)
    for _ in range(200):
        r = s.norm()
        barrier = -torch.log(2 - r) if r >= 1 else -torch.log(r)
        loss = 50 * barrier - s @ gram @ s
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return s.detach().reshape(5, 1, 7, 7)


def channel_products(maps: Tensor) -> Tensor:
    """(c, positions) -> (c*c,): entry (i, j) is the sum over positions of channel i times channel j."""
    return torch.stack([(maps[i] * maps).sum(dim=1) for i in range(len(maps))]).flatten()


def semantic_branch(w: Weights, coarsest: Tensor) -> tuple[Tensor, Tensor]:
    """X3 (5, 512, 7, 7) -> gamma (512,), category probabilities (78,)."""
    per_image = []
    for n in range(5):
        reduced = torch.relu(F.conv2d(coarsest[n : n + 1], w["sp1.0.weight"], w["sp1.0.bias"]))
        per_image.append(channel_products(reduced[0].reshape(64, 49)))
    memory = torch.cat(per_image)  # 5 * 4096 numbers, image after image
    mixed = torch.empty(4096, 5)
    for channel in range(4096):
        for position in range(5):
            mixed[channel, position] = memory[channel * 5 + position]
    weight = w["sp2.0.weight"].reshape(32, 4096)
    reduced = torch.relu(weight @ mixed + w["sp2.0.bias"][:, None])
    gamma = torch.relu(w["cls_m.0.weight"] @ channel_products(reduced) + w["cls_m.0.bias"])
    return gamma, torch.sigmoid(w["cls.0.weight"] @ gamma + w["cls.0.bias"])


def decoder(w: Weights, levels: list[Tensor]) -> Tensor:
    """Four modulated levels (5, 512, ., .), finest first -> foreground probability (5, 224, 224)."""
    x3, x2, x1, x0 = levels[3], levels[2], levels[1], levels[0]
    y = torch.relu(F.conv2d(x3, w["concat4.0.weight"], w["concat4.0.bias"]))
    y = torch.relu(F.conv2d(y, w["concat4.2.weight"], w["concat4.2.bias"], padding=1))
    y = F.conv_transpose2d(y, w["concat4.4.weight"], w["concat4.4.bias"], stride=2, padding=1)
    y = torch.relu(F.conv2d(x2, w["concat3.0.weight"], w["concat3.0.bias"])) + y
    y = torch.relu(F.conv2d(y, w["concat3.2.weight"], w["concat3.2.bias"], padding=1))
    y = F.conv_transpose2d(y, w["concat3.4.weight"], w["concat3.4.bias"], stride=2, padding=1)
    y = torch.relu(F.conv2d(x1, w["concat2.0.weight"], w["concat2.0.bias"])) + y
    y = torch.relu(F.conv2d(y, w["concat2.2.weight"], w["concat2.2.bias"], padding=1))
    y = F.conv_transpose2d(y, w["concat2.4.weight"], w["concat2.4.bias"], stride=2, padding=1)
    y = torch.relu(F.conv2d(x0, w["concat1.0.weight"], w["concat1.0.bias"])) + y
    y = torch.relu(F.conv2d(y, w["concat1.2.weight"], w["concat1.2.bias"], padding=1))
    y = F.conv2d(y, w["mask.0.weight"], w["mask.0.bias"], padding=1)
    y = F.conv_transpose2d(y, w["mask.1.weight"], w["mask.1.bias"], stride=4, padding=2)
    return torch.softmax(y, dim=1)[:, 0]


def widened(w: Weights, taps: list[Tensor]) -> list[Tensor]:
    levels = []
    for k, tap in enumerate(taps):
        x = F.conv2d(tap, w[f"incr_channel1.{k}.weight"], w[f"incr_channel1.{k}.bias"], padding=1)
        x = F.conv2d(x, w[f"incr_channel2.{k}.weight"], w[f"incr_channel2.{k}.bias"], padding=1)
        levels.append(torch.relu(x))
    return levels


def run(w: Weights, images: Tensor, grey: list[bool]) -> dict[str, Tensor]:
    """One group (5, 3, 224, 224) in [0, 1] -> probability, spatial_mask, gamma, categories, X3."""
    with torch.no_grad():
        levels = widened(w, base(w, torch.stack([normalise(i, g) for i, g in zip(images, grey)])))
    mask = spatial_solver(levels[3])
    with torch.no_grad():
        gamma, categories = semantic_branch(w, levels[3])
        modulated = []
        for level in levels:
            resized = F.interpolate(mask, size=level.shape[-2:], mode="bilinear", align_corners=False)
            modulated.append(level * gamma[None, :, None, None] + resized)
        probability = decoder(w, modulated)
    found = {"probability": probability, "spatial_mask": mask[:, 0], "gamma": gamma, "categories": categories}
    return found | {"coarsest": levels[3]}
