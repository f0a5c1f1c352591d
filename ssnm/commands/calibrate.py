"""Choose, on held-out training groups, the size at which a trained model sees its images, how far its logits go from
what it says of every image alone, and their slope; and fit the rules that say whether the shared object is in an image
and how good its mask is.

Draws the groups from the data of the checkpoint's own config (--set overrides it), prints J of every choice and writes
the model with the best. It never sees a test set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.loading import apply_overrides
from ..errors import CheckpointError
from ..files.atomic import require_writable
from ..files.places import find
from ..methods import load_config
from ..naming import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=find, metavar="CHECKPOINT", help="a training checkpoint, or with --config any model file"
    )
    parser.add_argument("--config", type=find, metavar="CONFIG", help="take the held-out images of this config")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256, 288], help="default: 224 256 288")
    parser.add_argument("--guidance", type=_guidance, nargs="+", default=[0.0, 1.0], metavar="G",
                        help="logits + G * (logits - logits of every image alone), default: 0 1")  # fmt: skip
    parser.add_argument("--groups", type=_positive, default=100, help="held-out groups to draw (default: %(default)s)")
    parser.add_argument(
        "--presence-groups", type=int, default=100, metavar="N",
        help="held-out groups for the rules of what is present and how good; for the first also twice as many as the "
        "classes of each of validation.sources (default: %(default)s; 0: no rules)",
    )  # fmt: skip
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="as in train")
    parser.add_argument("--half", action="store_true", help="float16 weights: half the size")
    parser.add_argument("--device", help="cpu, cuda, ...")


def run(args: argparse.Namespace) -> int:
    from ..coseg.calibrate import calibrate_rules, choose, with_choice, with_rules
    from ..coseg.config import config_from_dict
    from ..coseg.files import for_export, model_from_file
    from ..coseg.guidance import segments_alone
    from ..engine.checkpoint import export_model, load_model_file
    from ..engine.runtime import pick_device

    if args.out.suffix != ".safetensors":
        raise CheckpointError(f"{args.out}: the name of an exported model ends in .safetensors")
    where = str(args.checkpoint)
    source = load_model_file(args.checkpoint)
    if source.method != "ssnm" or source.config["model"].get("name") != "ssnm" or not (
        args.config or "data" in source.config
    ):
        raise CheckpointError(f"{where}: a training checkpoint of the paper's variant of ssnm was expected; others "
                              "have nothing to choose, or no config with the held-out groups")  # fmt: skip
    source = for_export(source, where)
    if args.config:
        config = load_config(args.config, args.overrides)
    else:
        config = config_from_dict(apply_overrides(source.config, args.overrides), where)
    model, _ = model_from_file(source, where)
    require_writable(args.out.parent)
    alone = segments_alone(model)
    guidances = args.guidance if alone else [0.0]
    best, compared = choose(model, config, args.sizes, guidances, args.groups, pick_device(args.device))
    print(f"{counted(args.groups, 'held-out group')}, J over images in percent\n"
          " size  guidance  slope  offset  release rule  at 0.5")
    for c in compared:
        mark = "  <- chosen" if c == best else ""
        print(f"{c.size:5d}  {c.guidance:8g}  {c.slope:5.1f}  {c.offset:6.1f}  {c.J:12.1f}  {c.J_half:6.1f}{mark}")
    chosen = with_choice(source, best)
    if not alone:
        print("no guidance and no rules: they need a semantic modulator that is not centred")
    elif args.presence_groups > 0:
        model, inference = model_from_file(chosen, where)
        device = pick_device(args.device)
        rules = calibrate_rules(model, config, inference, args.presence_groups, device)
        further = [source.name for source in config.validation.sources]
        chosen = with_rules(chosen, rules, args.presence_groups, further)
        print(f"present: {chosen.card['presence']}\nquality: {chosen.card['quality']}")
    export_model(args.out, chosen, half=args.half)
    print(f"written: {args.out}")
    return 0


def _guidance(text: str) -> float:
    from ..coseg.guidance import as_guidance

    try:
        return as_guidance(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more was expected, got {text}")
    return int(text)
