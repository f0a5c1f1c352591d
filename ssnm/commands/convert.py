"""Turn a checkpoint of a method's authors into a model file of this package.

ssnm convert release SSNM-Coseg_best.pth OUT.safetensors    SSNM (docs/release.md)
ssnm convert osmn CHECKPOINT OUT.safetensors                OSMN, from TensorFlow's files or a .npz (docs/osmn.md)
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from ..files.places import find

# Name -> module with convert(source, target, **options).
KINDS = {"release": "..coseg.release.convert", "osmn": "..video.convert"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(KINDS), metavar="KIND", help=f"whose file: {', '.join(sorted(KINDS))}")
    parser.add_argument("source", type=find, metavar="SRC", help="the authors' file")
    parser.add_argument("out", type=Path, metavar="DST", help="the file to write, .safetensors")
    parser.add_argument("--solver", choices=["adam200", "exact"], default="adam200",
                        help="release: of the spatial mask (default: adam200, what the weights were trained behind)")


def run(args: argparse.Namespace) -> int:
    options = {"solver": args.solver} if args.kind == "release" else {}
    conversion = importlib.import_module(KINDS[args.kind], __package__).convert(args.source, args.out, **options)
    for line in conversion.report():
        print(line)
    print(f"written: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")
    return 0
