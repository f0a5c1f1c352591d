"""Turn a training checkpoint into a model file for users.

safetensors (the default): one file with config, labels and a model card. onnx: a folder with encoder and head as ONNX
graphs, the modulator's weights and what else there is to know; it runs on onnxruntime, by `ssnm segment --checkpoint
FOLDER`. Number and size of the images are open. --int8 quantises the graphs, with a folder of images to calibrate on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError, MissingFileError
from ..files.places import find
from ..methods import part
from ..naming import counted
from ..pretrained import find_model

if TYPE_CHECKING:
    from ..engine.checkpoint import ModelFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="MODEL", help="a training checkpoint (.pt), a model file, or default")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write (.safetensors), of onnx the folder")
    parser.add_argument("--format", choices=("safetensors", "onnx"), default="safetensors", help="of what is written")
    parser.add_argument(
        "--card", type=find, metavar="FILE.json", help="model card: data, steps, seed, licences, limits"
    )
    parser.add_argument("--half", action="store_true", help="safetensors: weights in float16 (half the size)")
    parser.add_argument("--int8", action="store_true", help="onnx: 8-bit weights and maps; needs --calibration")
    parser.add_argument(
        "--calibration", type=find, metavar="DIR",
        help="onnx: images that show the ranges of the maps, a folder per group; images of the training, not of a test",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from ..engine.checkpoint import export_model, load_model_file
    from ..engine.runtime import pick_device

    _check(args)
    path = find_model(args.checkpoint)
    source = load_model_file(path)
    source = part(source.method, "files", str(path)).for_export(source, str(path))
    part(source.method, "segmenter").load(source, path, pick_device("cpu"))  # what cannot be loaded is said
    if args.card is not None:
        try:
            card = json.loads(args.card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{args.card}: not a readable JSON file ({error})") from None
        if not isinstance(card, dict):
            raise DataError(f"{args.card}: a JSON object (a mapping) was expected, got {type(card).__name__}")
        source.card.update(card)
    if args.format == "onnx":
        return _write_onnx(args, source, path)
    export_model(args.out, source, half=args.half)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, method {source.method}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises:
        ConfigError, DataError: options that do not go together, or a name of the wrong kind."""
    if args.format == "safetensors":
        if args.int8 or args.calibration is not None:
            raise ConfigError("--int8 and --calibration are for --format onnx; --half halves a safetensors file")
        if args.out.suffix != ".safetensors":
            raise DataError(f"{args.out}: the name of an exported model ends in .safetensors")
        return
    if args.half:
        raise ConfigError("--half is for --format safetensors; ONNX models are float32, or --int8")
    if args.int8 != (args.calibration is not None):
        raise ConfigError("--int8 and --calibration DIR go together: the images show the ranges of the maps")
    if args.out.is_file() or args.out.suffix in (".onnx", ".safetensors"):
        raise DataError(f"{args.out}: an ONNX model is a folder of several files; give the name of a folder")


def _write_onnx(args: argparse.Namespace, source: ModelFile, path: Path) -> int:
    if source.method != "ssnm":
        raise ConfigError(f"{path}: models of {source.method} are not exported to ONNX; those of ssnm are")
    model, inference = part("ssnm", "files").model_from_file(source, str(path))
    if args.int8:
        groups = find_groups(args.calibration)
        print(f"calibrating on {counted(sum(map(len, groups)), 'image')} in {counted(len(groups), 'group')}")
        facts = part("ssnm", "onnx.quantise").export_int8(model, inference, args.out, source.card, groups)
    else:
        facts = part("ssnm", "onnx.export").export_onnx(model, inference, args.out, source.card)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    sides = "any size" if facts.size_multiple == 1 else f"sides that are multiples of {facts.size_multiple}"
    print(f"{args.out}: {size:.1f} MB, {facts.precision}, ONNX opset {facts.opset}, any number of images, {sides}")
    return 0


def find_groups(folder: Path) -> list[list[Path]]:
    """The images of a folder, a group per folder in it, or one group.

    Raises:
        MissingFileError, DataError: no such folder, no image.
    """
    from ..files.listing import list_folders, list_images

    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of images")
    groups = [images for place in (folder, *list_folders(folder)) if (images := list_images(place))]
    if not groups:
        raise DataError(f"{folder}: no image in it or in its folders")
    return groups
