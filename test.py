"""Test from a checkout: python test.py CHECKPOINT ... (an installed package has `ssnm test`)."""

import sys

from ssnm.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
