"""Online fine-tuning: a fresh copy of the network, trained for some steps on the one frame whose mask is given.

The only sample is that frame with itself: the visual guide is cut out of it, the spatial guide is made of its own mask,
both with the perturbations of training, and the mask is what the network has to give. Nothing but steps, seed, frame
and mask decides the result.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..data.augment import Augmentation
from .data import GuideRules, collate, make_sample
from .losses import VideoCriterion
from .settings import Settings
from .small import SmallOSMN

SCALES = (0.5, 0.8, 1.0)  # of the network's input, one is drawn for each step
WEIGHT_DECAY = 2e-4


@dataclass(frozen=True)
class Recipe:
    """Learning rate of Adam, and the losses."""

    lr: float
    criterion: VideoCriterion


ORIGINAL = Recipe(1e-5, VideoCriterion())
SMALL = Recipe(1e-4, VideoCriterion(balanced=0.0, cross_entropy=1.0, dice=1.0))


@dataclass(frozen=True)
class _OneFrame:
    """The track of a single picture that is in memory; see :class:`ssnm.video.tracks.Track`."""

    picture: np.ndarray
    truth: np.ndarray
    name: str = "the first frame"
    video: str = "the first frame"

    def __len__(self) -> int:
        return 1

    def image(self, frame: int) -> np.ndarray:
        return self.picture

    def mask(self, frame: int) -> np.ndarray:
        return self.truth

    def void(self, frame: int) -> np.ndarray | None:
        return None

    def frame_name(self, frame: int) -> str:
        return self.name


def finetune(
    network: nn.Module,
    image: np.ndarray,
    mask: np.ndarray,
    steps: int,
    settings: Settings,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> nn.Module:
    """A copy of `network` that has seen this object, in eval mode; `network` stays as it is.

    Args:
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) bool.
        steps: updates.
        size: (width, height) of the network's input; None: as the settings have it.
    """
    recipe = SMALL if isinstance(network, SmallOSMN) else ORIGINAL
    with torch.inference_mode(False), torch.enable_grad():  # callers may be predicting
        tuned = _in_training(network)
        device = next(tuned.parameters()).device
        optimizer = torch.optim.Adam(_groups(tuned), lr=recipe.lr)
        height, width = settings.network_size(image.shape[:2], size)
        track, rules = _OneFrame(image, mask), _rules(settings)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout
            torch.manual_seed(seed)
            for step in range(steps):
                rng = np.random.default_rng((seed, step))
                scale = SCALES[rng.integers(len(SCALES))]
                at = max(16, int(width * scale)), max(16, int(height * scale))
                sample = make_sample(track, 0, at, rules, Augmentation(flip=0.0), rng)
                batch = collate([(sample, (track.name,), ())]).to(device)
                logits = tuned(batch.images, batch.spatial_guides, batch.visual_guides, batch.visual_masks)
                optimizer.zero_grad(set_to_none=True)
                recipe.criterion(logits, batch)["total"].backward()
                optimizer.step()
    return tuned.eval()


def _in_training(network: nn.Module) -> nn.Module:
    """A copy in training mode. The small network's batch norms keep their moving statistics: those of one frame would
    say little, and nothing on a map of one cell; OSMN's (of its spatial modulator) take the frame's, as the original's.
    """
    tuned = copy.deepcopy(network).train()
    if isinstance(tuned, SmallOSMN):
        for module in tuned.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    return tuned


def _groups(network: nn.Module) -> list[dict]:
    """Weight decay on the weights of convolutions alone."""
    convolutions = {id(m.weight) for m in network.modules() if isinstance(m, nn.Conv2d)}
    trained = [p for p in network.parameters() if p.requires_grad]
    return [{"params": [p for p in trained if id(p) in convolutions], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in trained if id(p) not in convolutions]}]  # fmt: skip


def _rules(settings: Settings) -> GuideRules:
    """The guides of training, for what the settings say of their kind."""
    return GuideRules(side=settings.guide_side, spatial=settings.guide, keep_aspect=settings.guide_aspect == "keep",
                      background=settings.guide_background)  # fmt: skip
