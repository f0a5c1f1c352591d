"""Segment what your photographs have in common.

All images given form one group, however many they are. Writes masks/NAME.png (0/255), probabilities/NAME.png (grey)
and overlays/NAME.jpg under the out folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, MissingFileError
from ..files.images import load_rgb
from ..files.listing import left_out, list_images, shorten
from ..files.places import find

if TYPE_CHECKING:
    from ..coseg.segmentation import Segmentation

LIKELY = 0.1  # a category below this probability is not worth a name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and overlays go")
    parser.add_argument("--checkpoint", default="default", metavar="FILE", help="a model (default: the shipped one)")
    parser.add_argument(
        "--threshold", help="of the masks: a number in [0, 1], or mean+std (default: the model's own rule)"
    )
    parser.add_argument(
        "--absent", choices=("empty", "keep"), default="empty",
        help="masks of images that the model holds to be without the object (default: empty)",
    )  # fmt: skip
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], metavar="S",
        help="average the maps at these multiples of the model's image size, as 1 1.25; costs that of all of them",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained

    given = [find(path) for path in args.images]
    images = expand(given)
    for folder in (p for p in given if p.is_dir()):
        if note := left_out([folder]):
            print(f"note: {folder}: {note}")
    _require_readable(images)
    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm")
    segmenter.predictor.use_scales(args.scales)
    result = segmenter.segment(images, threshold=_threshold(args.threshold), absent=args.absent)
    if others := result.others_in(args.out):
        print(f"note: {args.out} also holds results of {_count(len(others))} of an earlier run: {shorten(others)}")
    result.save(args.out)
    if result.categories:
        likely = [f"{name} ({share:.0%})" for name, share in result.categories[:3] if share >= LIKELY]
        names = ", ".join(likely) or "nothing"
        print(f"shared by {_count(len(images))}, as far as the training categories go: {names}")
    for i in range(len(images)) if len(images) <= 50 else ():
        print(f"  {result.names[i]}: {_found(result, i)}")
    print(f"masks, probabilities and overlays: {args.out}")
    return 0


def _found(result: Segmentation, index: int) -> str:
    """What one line says of an image: how much of it the mask covers, and whether the object is there at all."""
    mask = result.masks[index]
    covered = f"{mask.mean():.0%} of the image" if mask.any() else "nothing found"
    if result.present is None:
        return covered
    likely = f"present {result.present[index]:.0%}"
    return f"not here ({likely})" if result.prediction.absent(index) and not mask.any() else f"{covered} ({likely})"


def expand(paths: list[Path]) -> list[Path]:
    """Files as they are; a folder gives its image files in natural order."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, others = list_images(path), left_out([path])
            if not inside:
                raise DataError(f"{path}: no image in this folder" + (f"; {others}" if others else ""))
            files += inside
        else:
            files.append(path)
    return files


def _require_readable(images: list[Path]) -> None:
    """All files that cannot be used in one message, before the network is loaded.

    Raises:
        DataError: some file is missing or cannot be decoded.
    """
    problems = []
    for path in images:
        try:
            load_rgb(path)
        except (DataError, MissingFileError) as error:
            problems.append(str(error))
    if len(problems) > 1:
        raise DataError(f"{len(problems)} of {len(images)} images cannot be used: " + "; ".join(problems))
    if problems:
        raise DataError(problems[0])


def _threshold(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _count(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"
