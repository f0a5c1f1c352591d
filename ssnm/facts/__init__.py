"""Published facts that ship with the package: the tables of the papers, counts of data sets, lists of files."""

from __future__ import annotations

import csv
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MissingFileError


@cache
def load_facts(name: str) -> Any:
    """The content of ``ssnm/facts/<name>.json``, or the rows of ``<name>.csv`` as dictionaries; treat it as read-only,
    it is shared between callers.

    Raises:
        MissingFileError: the package holds no facts of that name.
    """
    files = {Path(f.name).stem: f for f in resources.files(__name__).iterdir() if f.name.endswith((".json", ".csv"))}
    if name not in files:
        raise MissingFileError(f"no facts named {name!r} in the package; there are: {', '.join(sorted(files))}")
    text = files[name].read_text(encoding="utf-8")
    return json.loads(text) if files[name].name.endswith(".json") else list(csv.DictReader(text.splitlines()))


def published_results() -> dict[str, Any]:
    """Tables 1-5 of Zhang et al., AAAI 2020, in percent, with the authors' correction of Internet Car (73.9)."""
    return load_facts("published")


def published_video_results() -> dict[str, Any]:
    """Published figures of OSMN per data set, in percent, with where they were read."""
    return load_facts("published_video")


def published_instance_results() -> dict[str, Any]:
    """Tables 2, 3 and 4 and Figure 4 of DeepCO3 (CVPR 2019), in percent."""
    return load_facts("published_instances")
