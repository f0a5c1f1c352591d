"""Published facts that ship with the package as JSON: the tables of the paper, counts of data sets, lists of files."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from ..errors import MissingFileError


@cache
def load_facts(name: str) -> Any:
    """The content of ``ssnm/facts/<name>.json``; treat it as read-only, it is shared between callers.

    Raises:
        MissingFileError: the package holds no facts of that name.
    """
    file = resources.files(__name__) / f"{name}.json"
    if not file.is_file():
        known = sorted(f.name[:-5] for f in resources.files(__name__).iterdir() if f.name.endswith(".json"))
        raise MissingFileError(f"no facts named {name!r} in the package; there are: {', '.join(known)}")
    return json.loads(file.read_text(encoding="utf-8"))


def published_results() -> dict[str, Any]:
    """Tables 1-5 of Zhang et al., AAAI 2020, in percent, with the authors' correction of Internet Car (73.9)."""
    return load_facts("published")


def published_video_results() -> dict[str, Any]:
    """Published figures of OSMN per data set, in percent, with where they were read."""
    return load_facts("published_video")
