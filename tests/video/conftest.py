"""A stand-in network that finds pixels of the object's colour near its last place, and small videos for it."""

import numpy as np
import pytest
import torch
from torch import nn

from ssnm.video.segmenter import VideoSegmenter
from ssnm.video.settings import Settings

RED, GREEN, BLUE, GREY = (230, 30, 30), (30, 200, 40), (40, 60, 230), (120, 120, 120)


class ColourNetwork(nn.Module):
    """Scales are the mean colour of the masked guide; a pixel is the object's if it has that colour and lies where
    the spatial guide is not nearly 0. Counts its calls."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        self.calls = {"scales": 0, "segment": 0}

    def scales(self, guides, masks):
        self.calls["scales"] += 1
        covered = masks[:, None].sum((2, 3)).clamp(min=1)
        return (guides * masks[:, None]).sum((2, 3)) / covered  # (K, 3)

    def segment(self, images, spatial_guides, scales):
        assert images.shape[0] == 1 and images.shape[-2:] == spatial_guides.shape[-2:]
        self.calls["segment"] += 1
        distance = (images - scales[:, :, None, None]).abs().amax(1)  # (K, H, W)
        near = (spatial_guides > 1e-4).float()
        return 20 * (0.25 - distance) * near - 5 * (1 - near)


@pytest.fixture
def network():
    return ColourNetwork()


@pytest.fixture
def segmenter(network):
    return VideoSegmenter(network, Settings(size=(64, 48)))


@pytest.fixture
def clip():
    """Make a video of coloured squares that move to the right: (frames, ids), arrays."""

    def make(count=5, colours=(RED, GREEN), ids=(1, 2), size=(48, 64), step=2):
        frames, masks = [], []
        for t in range(count):
            image = np.full((*size, 3), GREY, np.uint8)
            mask = np.zeros(size, np.uint8)
            for n, (colour, i) in enumerate(zip(colours, ids)):
                rows, columns = slice(4 + 18 * n, 16 + 18 * n), slice(4 + step * t, 16 + step * t)
                image[rows, columns], mask[rows, columns] = colour, i
            frames.append(image)
            masks.append(mask)
        return frames, masks

    return make
