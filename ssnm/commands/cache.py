"""``ssnm datasets cache``: decode, rasterise and resize the training images of a config once, into a store.

Each source of the config becomes a store in DIR/<name of the source>. Running the same command again finishes an
interrupted run and tries unreadable images anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files.places import find
from ..files.progress import progress_bar
from ..methods import load_config
from ..naming import counted

_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    parser.add_argument("config", type=find, metavar="CONFIG", help="YAML file with the sources under data.sources")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder of the stores")
    parser.add_argument("--size", type=int, metavar="S", help="side of the square images (default: data.size)")
    parser.add_argument("--workers", type=int, default=0, metavar="K", help="processes (default: data.workers)")
    parser.add_argument("--set", dest="overrides", action="append", nargs="+", default=[], metavar="KEY=VALUE",
                        help="override a value of the config; may be repeated")  # fmt: skip
    parser.add_argument(
        "--verify",
        action="store_true",
        help="only read existing stores again and compare checksums; exit status 1 if one does not fit",
    )


def run(args: argparse.Namespace) -> int:
    """Write or verify one store per source; returns the exit status (1: a store is incomplete or damaged).

    Raises:
        UserError: the config or a source cannot be used, or DIR holds a store of something else.
    """
    config = load_config(args.config, [o for group in args.overrides for o in group])
    stores = _folders(config, args.out)
    if args.verify:
        return max(_verify(root) for root in stores)
    from ..coseg.build import build_file_source
    from ..data.store import write_store

    size = config.data.size if args.size is None else args.size
    for number, (section, root) in enumerate(zip(config.data.sources, stores)):
        source = build_file_source(section, config.data)
        done = write_store(source, root, (size, size), args.workers or config.data.workers, progress_bar(str(root)))
        print(f"{root}: {counted(done.images, 'image')} of {size}x{size}, {done.num_bytes / 1e6:.1f} MB; "
              f"{done.written} written, {done.images - done.written} there already")  # fmt: skip
        _warn(done.bad)
        print(f"train from it with: --set data.sources.{number}.store={root.resolve()} data.size={size}")
    return 0


def _folders(config: Any, out: Path) -> list[Path]:
    names = [source.name for source in config.data.sources]
    if not names:
        raise ConfigError("the config has no data.sources; a store is made of at least one")
    if len(set(names)) < len(names):
        raise ConfigError(f"the sources are named {', '.join(names)}; give each a name of its own (key: name)")
    return [out / name for name in names]


def _verify(root: Path) -> int:
    from ..data.store import verify_store

    problems = verify_store(root)
    for problem in problems:
        print(f"wrong: {root}: {problem}")
    print(f"{root}: " + ("not to be used" if problems else "every byte fits its checksum"))
    return 1 if problems else 0


def _warn(bad: dict[str, str]) -> None:
    for problem in list(bad.values())[:_SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    if bad:
        print(f"warning: {counted(len(bad), 'image')} unreadable, to be replaced in training (see "
              "data.max_bad_images); mend and run this again", file=sys.stderr)  # fmt: skip
