"""Turn a checkpoint of the authors' release into a model of this package.

    python scripts/convert_release_checkpoint.py SSNM-Coseg_best.pth OUT.safetensors

The result carries its config and the 78 category names; `ssnm.from_pretrained("OUT.safetensors")` and test.py load it.
Only tensors are read from the file, never a pickle of objects. docs/release.md says what the model computes.
"""

import argparse
import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ssnm.config.loading import config_to_dict
from ssnm.coseg.build import model_from_file  # noqa: E402
from ssnm.coseg.release.keys import Conversion, convert_state_dict  # noqa: E402
from ssnm.engine.checkpoint import ModelFile, export_model, load_model_file  # noqa: E402
from ssnm.errors import ConfigError, UserError  # noqa: E402
from ssnm.methods import load_config
from ssnm.nn.backbones import read_tensors  # noqa: E402


def convert(source: Path, target: Path, solver: str = "adam200") -> Conversion:
    """Read `source`, check every key and shape, write `target` and load it once, strictly.

    Raises:
        ConfigError: `target` is not a .safetensors name.
        MissingFileError, CheckpointError: `source` is not there, cannot be read safely, or is not the release's.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"OUT must end in .safetensors, got {target}")
    conversion = convert_state_dict(read_tensors(source), str(source))
    config = load_config(ROOT / "configs" / "ssnm_vgg16_release.yaml", [f"model.solver={solver}"])
    card = {
        "origin": f"converted from {source.name} of the authors' release (cj4L/SSNM-Coseg)",
        "origin_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "input": "groups of exactly 5 images, 224x224; the order of the images matters",
        "config": "the release's training set-up, as a record; the weights were not trained with this package",
    }
    export_model(target, ModelFile(config_to_dict(config), config.data.labels, conversion.weights, card))
    model_from_file(load_model_file(target), str(target))
    return conversion


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the release's .pth file")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write, .safetensors")
    parser.add_argument("--solver", choices=["adam200", "exact"], default="adam200",
                        help="of the spatial mask (default: adam200, what the weights were trained behind)")
    args = parser.parse_args()
    try:
        conversion = convert(args.checkpoint, args.out, args.solver)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in conversion.report():
        print(line)
    print(f"written: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
