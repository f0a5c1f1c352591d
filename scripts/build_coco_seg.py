"""Build the COCO-SEG index from a checkout: python scripts/build_coco_seg.py ANNOTATIONS --out INDEX.json

The same as ``ssnm datasets coco-seg``.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ssnm.commands import coco_seg  # noqa: E402
from ssnm.errors import UserError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    coco_seg.add_arguments(parser)
    try:
        return coco_seg.run(parser.parse_args())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
