"""What the authors' program was run on, and golden values of what it gave: for the tests of OSMN.

Weights and pictures are functions of names and seeds, so that no large file is needed: `value` gives every variable of
their network, `inputs` the frames and masks. `golden` holds a part of what came out.
"""

import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ssnm.video.convert import Variant, key_table

GOLDEN = Path(__file__).parent / "golden"
OSVOS, NO_VISUAL = Variant(True, True, False), Variant(False, True, False)


@lru_cache(maxsize=1)
def golden() -> dict:
    with np.load(GOLDEN / "osmn.npz") as archive:
        return {name: archive[name] for name in archive.files}


@lru_cache(maxsize=1)
def facts() -> dict:
    """Checksums of exact arrays, losses, norms and draws."""
    return json.loads((GOLDEN / "osmn.json").read_text())


def checksum(array: np.ndarray) -> int:
    """Of the values, whatever integer type they have."""
    return zlib.crc32(np.ascontiguousarray(array, np.int16).tobytes())


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The stand-in of a variable, by its TensorFlow name, in TensorFlow's order of axes."""
    leaf, head = name.split("/")[-1], "fc8/" in name
    if "-up/" in name:
        taps = 1 - np.abs(np.arange(shape[0]) - (shape[0] / 2 - 0.5)) / (shape[0] / 2)
        kernel = np.zeros(shape, np.float32)
        kernel[:, :, range(shape[2]), range(shape[2])] = np.outer(taps, taps).astype(np.float32)[:, :, None]
        return kernel
    ranges = {"moving_mean": (-0.3, 0.3), "moving_variance": (0.2, 1.5), "gamma": (0.5, 1.5), "beta": (-0.5, 0.5),
              "biases": (0.8, 1.2) if head else (-0.1, 0.1)}  # fmt: skip
    if leaf in ranges:
        low, high = ranges[leaf]
    else:
        bound = np.sqrt(6.0 / (shape[0] * shape[1] * shape[2])) * (0.5 if "_16/" in name else 1)
        bound = 1.0 if "modulator_sp/" in name else bound * (0.1 if head else 1)
        high = bound / 64 if name.endswith("conv1/conv1_1/weights") else bound
        low = -high
    draws = np.random.default_rng(zlib.crc32(name.encode())).random(size=tuple(shape), dtype=np.float32)
    return np.float32(low) + np.float32(high - low) * draws


def variables(variant: Variant) -> dict[str, np.ndarray]:
    """Every variable of a variant, as a checkpoint of the authors would hold it, without the up-sampling kernels."""
    return {f"osmn/{name}": value(f"osmn/{name}", shape) for name, (_, shape) in key_table(variant).items()}


@lru_cache(maxsize=1)
def inputs() -> dict[str, np.ndarray]:
    """frame0, frame1 (150, 200, 3) uint8 RGB and mask_* (150, 200) uint8, 0 or 255."""
    shape = (150, 200)
    found = {"frame0": _frame(1, (70, 90)), "frame1": _frame(2, (75, 98))}
    masks = {name: np.zeros(shape, np.uint8) for name in
             ("normal", "tiny", "empty", "border", "full", "onepixel", "two_parts", "column")}  # fmt: skip
    masks["normal"][_ellipse((70, 90), (30, 45))] = 255
    masks["tiny"][40:43, 120:122] = 255
    masks["border"][_ellipse((140, 5), (40, 35))] = 255
    masks["full"][:] = 255
    masks["onepixel"][60, 33] = 255
    masks["two_parts"][10:30, 10:40] = masks["two_parts"][100:140, 150:190] = 255
    masks["column"][20:90, 77] = 255
    found |= {f"mask_{name}": mask for name, mask in masks.items()}
    assert zlib.crc32(b"".join(found[k].tobytes() for k in sorted(found))) == facts()["inputs"], "numpy draws otherwise"
    return found


def _frame(seed: int, centre: tuple[int, int]) -> np.ndarray:
    height, width = 150, 200
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, size=(8, 10, 3)).astype(np.float64)
    y, x = np.linspace(0, 6.999, height), np.linspace(0, 8.999, width)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    image = ((1 - fy) * (1 - fx) * small[y0][:, x0] + (1 - fy) * fx * small[y0][:, x0 + 1]
             + fy * (1 - fx) * small[y0 + 1][:, x0] + fy * fx * small[y0 + 1][:, x0 + 1])  # fmt: skip
    inside = _ellipse(centre, (30, 45))
    texture = rng.integers(0, 256, size=(height // 5 + 1, width // 5 + 1, 3)).repeat(5, 0).repeat(5, 1)
    image[inside] = texture[:height, :width][inside]
    return np.clip(np.floor(image), 0, 255).astype(np.uint8)


def _ellipse(centre: tuple[int, int], radii: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[:150, :200]
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1


def mask_at(name: str, size: tuple[int, int]) -> np.ndarray:
    """A mask at (height, width), by nearest neighbour."""
    return np.array(Image.fromarray(inputs()[f"mask_{name}"]).resize((size[1], size[0]), Image.Resampling.NEAREST))


def frame_at(name: str, size: tuple[int, int]) -> np.ndarray:
    """A frame at (height, width), bilinear."""
    return np.array(Image.fromarray(inputs()[name]).resize((size[1], size[0]), Image.Resampling.BILINEAR))
