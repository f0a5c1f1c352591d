"""hubconf.py: a clone is what torch.hub loads models from."""

from pathlib import Path

import numpy as np
import torch

ROOT = str(Path(__file__).parents[1])


def test_a_clone_gives_the_shipped_model_by_torch_hub():
    segmenter = torch.hub.load(ROOT, "coseg", source="local", device="cpu")
    assert segmenter.segment([np.zeros((40, 50, 3), np.uint8)]).masks[0].shape == (40, 50)
