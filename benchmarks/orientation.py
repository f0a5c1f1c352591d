"""How often does each orientation rule put the positive side of the spatial mask on the object?

Groups of one category are drawn from training sets, a timm backbone gives the coarsest maps, the exact
solver gives S up to its sign, and every rule of `ssnm.coseg.orientation` fixes the sign. A group counts as
right when the mean of S over the positions of the object is larger than over the rest. Example:

    python benchmarks/orientation.py --voc DATA/VOC_train --coco DATA/COCO_mini549 --weights FILE.safetensors

Never point it at a test set: the default rule is chosen by these figures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssnm.coseg.orientation import ORIENTATIONS, orient
from ssnm.coseg.spectral import leading_eigenvector, unit_descriptors
from ssnm.data.voc import VOC_CLASSES
from ssnm.errors import DataError, MissingFileError, UserError
from ssnm.files.images import load_rgb
from ssnm.files.masks import read_ids
from ssnm.naming import canonical_category
from ssnm.nn.backbones import Backbone
from ssnm.nn.resize import resize_area, resize_bilinear


@dataclass(frozen=True)
class Candidate:
    """One image of a category; `mask()` gives the truth (H, W) bool at the image's size."""

    image: Path
    mask: Callable[[], np.ndarray]


def _voc_mask(path: Path, index: int) -> np.ndarray:
    return read_ids(path, classes=True) == index


def _coco_mask(polygons: list, height: int, width: int) -> np.ndarray:
    from pycocotools import mask as rle

    return rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))) > 0


def voc_candidates(root: Path, min_share: float) -> dict[str, list[Candidate]]:
    """category -> images whose palette mask gives it at least `min_share` of the pixels."""
    found: dict[str, list[Candidate]] = {}
    for path in sorted((root / "SegmentationClass").glob("*.png")):
        labels = read_ids(path, classes=True)
        shares = np.bincount(labels.ravel(), minlength=21)[1:21] / labels.size
        for index in np.flatnonzero(shares >= min_share):
            mask = partial(_voc_mask, path, int(index) + 1)
            image = root / "JPEGImages" / f"{path.stem}.jpg"
            found.setdefault(canonical_category(VOC_CLASSES[index]), []).append(Candidate(image, mask))
    if not found:
        raise DataError(f"{root}: no palette mask under SegmentationClass/; give the root of a set in VOC layout")
    return found


def coco_candidates(root: Path, min_share: float) -> dict[str, list[Candidate]]:
    """The same from COCO annotations: ROOT/images/ and one ROOT/instances*.json; crowds are ignored."""
    index_file = next(iter(sorted(root.glob("instances*.json"))), None)
    if index_file is None:
        raise MissingFileError(f"{root}: no instances*.json; give the folder that holds it and images/")
    index = json.loads(index_file.read_text())
    names = {c["id"]: canonical_category(c["name"]) for c in index["categories"]}
    polygons: dict[tuple[int, int], list] = {}
    area: dict[tuple[int, int], float] = {}
    for a in index["annotations"]:
        if not a["iscrowd"]:
            key = (a["image_id"], a["category_id"])
            polygons.setdefault(key, []).extend(a["segmentation"])
            area[key] = area.get(key, 0.0) + a["area"]
    images = {i["id"]: i for i in index["images"]}
    found: dict[str, list[Candidate]] = {}
    for (image_id, category), shapes in sorted(polygons.items()):
        record = images[image_id]
        height, width = record["height"], record["width"]
        if area[image_id, category] >= min_share * height * width:
            mask = partial(_coco_mask, shapes, height, width)
            found.setdefault(names[category], []).append(Candidate(root / "images" / record["file_name"], mask))
    return found


def draw_groups(
    candidates: dict[str, list[Candidate]], size: int, count: int, rng: random.Random
) -> list[tuple[str, list[Candidate]]]:
    """`count` groups (category, `size` candidates): categories in turn, so that no large one decides."""
    usable = sorted(c for c, items in candidates.items() if len(items) >= size)
    if not usable:
        raise DataError(f"no category has {size} images; give more data or a smaller --group-size")
    order = (usable * (count // len(usable) + 1))[:count]
    return [(category, rng.sample(candidates[category], size)) for category in order]


@torch.no_grad()
def group_maps(group: list[Candidate], backbone: Backbone, side: int) -> tuple[Tensor, Tensor]:
    """Coarsest maps (1, N, D, h, w) and the object's share of every position (1, N, h, w) in [0, 1]."""
    images, masks = [], []
    for candidate in group:
        pixels = torch.from_numpy(load_rgb(candidate.image).array).permute(2, 0, 1)[None] / 255
        images.append(resize_bilinear(pixels, (side, side), antialias=True)[0])
        masks.append(torch.from_numpy(np.ascontiguousarray(candidate.mask())).float()[None])
    maps = backbone(torch.stack(images))[-1]
    return maps[None], torch.stack([resize_area(m, maps.shape[-2:])[0] for m in masks])[None]


def positive_side_is_object(mask: Tensor, truth: Tensor) -> bool:
    """Mean of S over the object's pixels > over the rest; positions count by their share of object pixels."""
    on_object = (mask * truth).sum() / truth.sum()
    on_rest = (mask * (1 - truth)).sum() / (1 - truth).sum()
    return bool(on_object > on_rest)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--voc", type=Path, action="append", default=[], help="a training set in VOC layout")
    parser.add_argument("--coco", type=Path, action="append", default=[], help="a training set in COCO layout")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="timm name (default: %(default)s)")
    parser.add_argument("--weights", default="pretrained", help="a file, or 'pretrained' for timm's own download")
    parser.add_argument("--groups", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--group-size", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--image-size", type=int, default=224, help="default: %(default)s")
    parser.add_argument("--min-share", type=float, default=4000 / (640 * 480),
                        help="smallest share of an image that counts as the object (default: COCO-SEG's area rule)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    candidates: dict[str, list[Candidate]] = {}
    readers = [(voc_candidates, root) for root in args.voc] + [(coco_candidates, root) for root in args.coco]
    for reader, root in readers:
        for category, items in reader(root, args.min_share).items():
            candidates.setdefault(category, []).extend(items)
    groups = draw_groups(candidates, args.group_size, args.groups, random.Random(args.seed))
    # a file of the whole classifier may hold what follows the last map: named here, everything else is strict
    backbone = Backbone(args.backbone, args.weights, allow_unused=("conv_head", "bn2")).eval()
    right = {rule: 0 for rule in ORIENTATIONS}
    for _, group in groups:
        maps, truth = group_maps(group, backbone, args.image_size)
        vector, _ = leading_eigenvector(unit_descriptors(maps))
        for rule in ORIENTATIONS:
            right[rule] += positive_side_is_object(orient(vector.view_as(truth), rule), truth)
    print(f"{len(groups)} groups of {args.group_size} from {len({c for c, _ in groups})} categories, "
          f"{args.backbone}, {args.image_size} px, seed {args.seed}, torch {torch.__version__}")
    print(f"{'rule':<18}{'positive side on the object':>28}{'+- standard error':>20}")
    for rule, hits in right.items():
        share = hits / len(groups)
        print(f"{rule:<18}{share:>27.1%} {sqrt(share * (1 - share) / len(groups)):>19.1%}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
