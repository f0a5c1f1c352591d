"""Does S find objects? After a short training on procedural groups, on held-out ones."""

import numpy as np
import torch

from ssnm.coseg import build
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.train import train_run
from ssnm.data.records import Item, Sample

BOUND = 85.0  # percent; 50 says nothing


class Squares:
    """One square of a texture of its own on grey noise per image: what a spatial mask can find without a group."""

    name, categories = "squares", ("red", "green", "blue")

    def __init__(self, count: int = 60) -> None:
        self.items = [Item(f"square{i}", None, (self.categories[i % 3],)) for i in range(count)]

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        rng = np.random.default_rng(index)
        image = rng.integers(90, 130, (3, *size), dtype=np.uint8)
        side, (top, left) = size[0] // 2, rng.integers(4, size[0] // 2 - 4, 2)
        image[index % 3, top : top + side, left : left + side] = 230
        mask = torch.zeros(1, *size, dtype=torch.bool)
        mask[0, top : top + side, left : left + side] = True
        return Sample(torch.from_numpy(image), mask, torch.zeros(size, dtype=torch.bool), False)


def config(spatial: dict, spa: float) -> dict:
    return {
        "model": {
            "dim": 16,
            "backbone": {"name": "resnet18", "weights": "none", "strides": [4, 8]},
            "spatial": spatial,
            "semantic": {"normalisation": "signed_sqrt"},
        },
        "loss": {"spa": spa, "weighting": "none", "dice": 1.0, "spa_reduction": "mean"},
        "data": {"sources": [{"type": "procedural", "num_images": 2}], "size": 48, "group_size": 3, "workers": 0},
        "train": {"steps": 12, "batch_groups": 2, "lr": 1e-3},
        "validation": {"every": 1000, "groups": 6, "two_category_images": 0, "pictures": 0},
    }


def test_clustered_as_they_are_the_coarsest_maps_find_objects_after_a_short_training(tmp_path):
    pools = ImagePool([Squares()]).split(0.4)
    parsed = config_from_dict(config({"maps": "coarsest"}, 0.0))
    result = train_run(parsed, tmp_path, torch.device("cpu"), say=lambda line: None, pools=pools)
    assert result.scores["spatial_auc"] > BOUND, result.scores


def test_trained_by_l_spa_alone_fused_maps_collapse_towards_one_eigenvalue():
    """The trivial optimum of Eq. 9: descriptors become +x or -x, whatever the object (docs/spatial_modulator.md)."""
    shares = {}
    for trains in (True, False):
        torch.manual_seed(0)
        parsed = config_from_dict(config({"maps": "fused", "trains_maps": trains}, 1.0))
        model = build.build_model(parsed.model, 4)
        images = torch.rand(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        optimizer = torch.optim.Adam(model.fusion.parameters(), 1e-2)
        cfms = [m.detach() for m in model.backbone(images.flatten(0, 1))]
        for _ in range(60 if trains else 1):
            modulation = model.modulate(model.encode(cfms), 5)
            if trains:
                optimizer.zero_grad()
                (-modulation.clustering_energy.mean()).backward()
                optimizer.step()
        shares[trains] = float(modulation.eigenvalue.mean()) / modulation.spatial_mask[0].numel()
    assert shares[True] > 0.9 and shares[False] < 0.6 and np.isfinite(list(shares.values())).all()
