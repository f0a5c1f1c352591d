"""One mask per object, from nothing but a group of photographs that share a kind of thing.

All images given form one group. Writes overlays/NAME.jpg (outlined and numbered), masks/NAME.png (index k = instance
k), instances.json (COCO results) and result.json (how it was made) under the out folder.

The prior says where objects may lie: border (no labels: unlike what is at the image's border), a folder of grey maps
NAME.png, or coseg, the co-segmentation model of this package, which has learned from masks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, MissingFileError
from ..files.atomic import require_writable
from ..files.images import load_reduced
from ..files.listing import all_problems, left_out
from ..files.places import find
from ..files.progress import progress_bar
from ..naming import counted, printable
from .segment import expand

TRUST = {"yes": True, "no": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=find, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and overlays go")
    add_method_arguments(parser)
    parser.add_argument("--mode", choices=["fast", "paper"], default="fast",
                        help="fast: seconds an image on a CPU (default); paper: VGG16, for a GPU")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="FILE",
                        help="fitting goes on from this file if it is there, and is written to it")  # fmt: skip


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that ``ssnm test`` of instances has as well."""
    parser.add_argument("--prior", default="border", metavar="DIR|coseg|border", help="default: border")
    parser.add_argument("--prior-trained", choices=list(TRUST),
                        help="of a folder of maps: has what made them learned from masks?")  # fmt: skip
    parser.add_argument("--proposals", default="builtin", metavar="FILE|DIR|builtin",
                        help="masks to choose from: .mat, COCO or SAM JSON, masks (default: builtin)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the order of images in fitting")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    """Find, write, say what was found; returns the exit status.

    Raises:
        UserError: wrong options, images, maps or proposals, in one line.
    """
    from ..instances.discovery import Progress, discover
    from ..instances.result import image_ids

    images = _readable(expand(args.images))
    for folder in (path for path in args.images if path.is_dir()):
        if note := left_out([folder]):
            print(f"note: {folder}: {note}")
    image_ids([path.stem for path in images])  # two of one name: said before the work
    require_writable(args.out)
    names = [path.name for path in images]
    show = progress_bar("instances")
    result = discover(
        images,
        prior=prior_from(args.prior, names, args.device),
        proposals=proposals_from(args.proposals, names),
        mode=args.mode,
        seed=args.seed,
        device=args.device,
        prior_trained=trained_from(args),
        checkpoint=args.checkpoint,
        progress=Progress(on_image=lambda done: show(done, len(images))),
    )
    result.save(args.out)
    for name, scores in zip(result.names, result.scores) if len(images) <= 50 else ():
        print(f"  {printable(name)}: {counted(len(scores), 'instance')}")
    for note in result.card["notes"]:
        print(f"note: {note}", file=sys.stderr)
    total = sum(map(len, result.scores))
    print(f"{counted(total, 'instance')} in {counted(len(images), 'image')}; {result.prior}")
    print(f"overlays, masks and instances.json: {args.out}")
    return 0


def _readable(images: list[Path]) -> list[Path]:
    """The images that can be read; the others are named and left out.

    Raises:
        DataError: none can.
    """
    from ..instances.photos import NETWORK_SIDE

    problems = {}
    for path in images:
        try:
            load_reduced(path, NETWORK_SIDE)
        except (DataError, MissingFileError) as error:
            problems[path] = str(error)
    if len(problems) == len(images):
        raise DataError(all_problems(list(problems.values()), len(images), "images"))
    for problem in problems.values():
        print(f"left out: {printable(problem)}")
    return [path for path in images if path not in problems]


def prior_from(text: str, names: list[str], device: str | None) -> Any:
    """What ``--prior`` means, as ``discover`` takes it. The methods do not know each other: they meet here."""
    if text == "border":
        return text
    if text == "coseg":
        return CosegPrior(device)
    from ..instances.prior import folder_prior

    return folder_prior(find(text), names)


def proposals_from(text: str, names: list[str]) -> Any:
    """What ``--proposals`` means, as ``discover`` takes it."""
    from ..instances.proposal_files import StoredProposals

    return text if text == "builtin" else StoredProposals(find(text), names)


def trained_from(args: argparse.Namespace) -> bool | None:
    """Whether the prior has learned from masks, as far as it was said.

    Raises:
        ConfigError: said of a prior of which it is known.
    """
    if args.prior_trained and args.prior in ("border", "coseg"):
        raise ConfigError(f"--prior-trained is for a folder of maps; of --prior {args.prior} it is known, leave it out")
    return TRUST.get(args.prior_trained)


class CosegPrior:
    """The shipped co-segmentation model as a prior: list of images -> list of probability maps of their size."""

    name = "coseg (the shipped co-segmentation model)"
    trained = True

    def __init__(self, device: str | None = None) -> None:
        from ..pretrained import from_pretrained

        self._model = from_pretrained(device=device)

    def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return list(self._model.segment(images).probabilities)
