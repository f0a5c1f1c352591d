"""Where a path that people give is: the one rule, for every command and every config. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError


def data_root(root: str = "") -> Path:
    """The folder of data: `root` (a config's data.root) if given, else SSNM_DATA, else ./data."""
    return Path(root or os.environ.get("SSNM_DATA") or "data")


def find(path: str | Path, root: str = "") -> Path:
    """An absolute path as it is; a relative one as given where something is there, else under :func:`data_root`.

    A `root` that is given comes first: a config that names one means it, also where nothing is there.
    """
    path, under = Path(path), data_root(root) / path
    if root:
        return path if path.exists() and not under.exists() else under
    return under if under.exists() and not path.exists() else path


def inside(folder: Path, name: str) -> Path:
    """The file `name` below `folder`, where the name was read in a file, which may say anything.

    Raises:
        DataError: the name leads elsewhere, by ``..`` or as an absolute path.
    """
    path = folder / name
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise DataError(f"{name}: leads out of {folder}, where an image of the annotations was expected; write names "
                        "relative to that folder")  # fmt: skip
    return path
