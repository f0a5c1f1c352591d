"""Turn a training checkpoint into a model file for users (.safetensors with config, labels and a model card)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import DataError
from ..files.places import find
from ..methods import part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=find, metavar="CHECKPOINT", help="a training checkpoint (.pt)")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors", help="the file to write")
    parser.add_argument(
        "--card", type=find, metavar="FILE.json", help="model card: data, steps, seed, licences, limits"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in float16 (half the size)")


def run(args: argparse.Namespace) -> int:
    from ..engine.checkpoint import export_model, load_model_file
    from ..engine.runtime import pick_device

    if args.out.suffix != ".safetensors":
        raise DataError(f"{args.out}: the name of an exported model ends in .safetensors")
    source = load_model_file(args.checkpoint)
    source = part(source.method, "files", str(args.checkpoint)).for_export(source, str(args.checkpoint))
    part(source.method, "segmenter").load(source, args.checkpoint, pick_device("cpu"))  # what cannot be loaded is said
    if args.card is not None:
        try:
            card = json.loads(args.card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{args.card}: not a readable JSON file ({error})") from None
        if not isinstance(card, dict):
            raise DataError(f"{args.card}: a JSON object (a mapping) was expected, got {type(card).__name__}")
        source.card.update(card)
    export_model(args.out, source, half=args.half)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, method {source.method}")
    return 0
