"""Train from a checkout: python train.py CONFIG ... (an installed package has `ssnm train`)."""

import sys

from ssnm.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
