"""A checkpoint of the authors' release -> a model file of this package. Called by `ssnm convert release`.

The result carries its config and the 78 category names. Only tensors are read from the file, never a pickle of
objects. docs/release.md says what the model computes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...engine.checkpoint import export_model, load_model_file
from ...errors import ConfigError
from ...facts import load_facts
from ...naming import canonical_category
from ...nn.backbones import read_tensors
from ..config import config_from_dict
from ..files import model_file, model_from_file
from .keys import Conversion, convert_state_dict


def convert(source: Path, target: Path, solver: str = "adam200") -> Conversion:
    """Read `source`, check every key and shape, write `target` and load it once, strictly.

    Raises:
        ConfigError: `target` is not a .safetensors name.
        MissingFileError, CheckpointError: `source` is not there, cannot be read safely, or is not the release's.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"OUT must end in .safetensors, got {target}")
    conversion = convert_state_dict(read_tensors(source), str(source))
    config = config_from_dict({"model": {"name": "ssnm_release", "solver": solver}, "loss": {"type": "release"}})
    card = {
        "origin": f"converted from {source.name} of the authors' release (cj4L/SSNM-Coseg)",
        "origin_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "input": "groups of exactly 5 images, 224x224; the order of the images matters",
    }
    export_model(target, model_file(config, release_labels(), conversion.weights, card))
    model_from_file(load_model_file(target), str(target))
    return conversion


def release_labels() -> tuple[str, ...]:
    """The release's 78 categories: COCO's by ascending id, without toaster (80) and hair drier (89)."""
    categories = load_facts("coco_seg_counts")["categories"]
    return tuple(canonical_category(categories[key]["name"]) for key in sorted(categories, key=int))
