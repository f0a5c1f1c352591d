"""Segment what your photographs have in common.

All images given form one group, however many they are. Writes masks/NAME.png (0/255) and overlays/NAME.jpg under the
out folder, on request also probabilities/NAME.png (grey). An image that cannot be used is named and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from ..files.listing import left_out, list_images, shorten
from ..files.masks import read_binary
from ..files.places import find
from ..files.progress import progress_bar
from ..naming import counted, printable
from ..pretrained import RUNTIMES

if TYPE_CHECKING:
    from ..coseg.segmentation import Segmentation

LIKELY = 0.1  # a category below this probability is not worth a name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=find, metavar="IMAGE", help="image files, or folders of them")
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
    parser.add_argument(
        "--reference", action="append", default=[], metavar="IMAGE=MASK.png",
        help="the object of IMAGE (its file name) is known: look for what this mask shows; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--save", default="masks,overlays", metavar="KINDS",
        help="some of masks,overlays,probabilities (default: masks,overlays)",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", help="also write report.html, the masks to check first on top")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")
    parser.add_argument(
        "--runtime", choices=RUNTIMES,
        help="what runs the network (default: torch; onnx for a folder that ssnm export --format onnx wrote)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from .. import from_pretrained

    images = expand(args.images)
    for folder in (p for p in args.images if p.is_dir()):
        if note := left_out([folder]):
            print(f"note: {folder}: {note}")
    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm", runtime=args.runtime)
    segmenter.predictor.use_scales(args.scales)
    bad: list[str] = []
    bars = {stage: progress_bar(stage, "photo") for stage in ("read", "segmented")}
    kinds = tuple(dict.fromkeys(kind.strip() for kind in args.save.split(",")))
    if args.report and "masks" not in kinds:
        raise ConfigError(f"--report shows masks; add them to --save {args.save}")
    result = segmenter.segment(
        images, threshold=_threshold(args.threshold), absent=args.absent, reference=_references(args.reference),
        save_to=args.out, save=kinds, on_bad=bad.append, progress=lambda stage, *counts: bars[stage](*counts),
    )  # fmt: skip
    for problem in bad:
        print(f"left out: {printable(problem)}")
    images = result.names
    if others := result.others_in(args.out):
        print(f"note: {args.out} also holds results of {counted(len(others), 'image')} of an earlier run: "
              f"{shorten(others)}")
    if args.report:
        print(f"report: {_report(result, args.out)}")
    if result.categories:
        likely = [f"{name} ({share:.0%})" for name, share in result.categories[:3] if share >= LIKELY]
        names = ", ".join(likely) or "nothing"
        print(f"shared by {counted(len(images), 'image')}, as far as the training categories go: {names}")
    for i in range(len(images)) if len(images) <= 50 else ():
        print(f"  {printable(result.names[i])}: {_found(result, i)}")
    print(f"{' and '.join(filter(None, [', '.join(kinds[:-1]), kinds[-1]]))}: {args.out}")
    return 0


def _report(result: Segmentation, out: Path) -> Path:
    """report.html: every photograph with its mask, the lowest quality first."""
    from ..visualize.records import GroupRecord, ImageFiles, MapRecord, Report, RunRecord
    from ..visualize.report import write_page

    name = out.resolve().name
    images = tuple(ImageFiles(name, Path(n).stem, path) for n, path in zip(result.names, result.images))
    quality = [None] * len(images) if result.quality is None else result.quality.tolist()
    spatial = [None] * len(images) if result.spatial_masks is None else result.spatial_masks
    maps = {i.key: MapRecord(out / "masks" / f"{i.name}.png", 0.5, spatial_mask=s, quality=q)
            for i, s, q in zip(images, spatial, quality)}  # fmt: skip
    group = GroupRecord(name, tuple(i.key for i in images), len(images))
    page = Report(name, images, (RunRecord(name, maps, (group,)),))
    return write_page(page, out / "report.html", progress=progress_bar("page"))


def _found(result: Segmentation, index: int) -> str:
    """What one line says of an image: how much of it the mask covers, whether the object is there at all, and how good
    the mask is likely to be."""
    share = result.covered(index)
    covered = f"{share:.0%} of the image" if share else "nothing found"
    if result.present is None:
        return covered
    said = f"present {result.present[index]:.0%}"
    said += "" if result.quality is None else f", quality {result.quality[index]:.0%}"
    return f"not here ({said})" if result.prediction.absent(index) and not share else f"{covered} ({said})"


def _references(pairs: list[str]) -> dict:
    """["b.jpg=mask.png", ...] -> {"b.jpg": (H, W) bool}; the last = divides, for names that hold one.

    Raises:
        ConfigError: no =. MissingFileError, DataError: a mask that cannot be read.
    """
    masks = {}
    for pair in pairs:
        name, divided, path = pair.rpartition("=")
        if not divided or not name or not path:
            raise ConfigError(f"--reference takes IMAGE=MASK, as b.jpg=mask.png, got '{pair}'")
        if name in masks:
            raise ConfigError(f"--reference: '{name}' has two masks; give one")
        masks[name] = read_binary(find(Path(path))).object
    return masks


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


def _threshold(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
