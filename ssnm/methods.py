"""The table of methods, and how a config or a model file finds its own.

A method is a folder of this package and one line here. What the folder offers, by module (DeepCO3, which is fitted to
each group, has a config alone):

    config     config_from_dict(mapping, where) -> the method's config
    segmenter  load(file, path, device) -> what `ssnm.from_pretrained` gives
    train      train_run(config, out, device, ...), dry_run(...), final_report(...): the train command
    files      for_export(file, where): the export command
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, Sequence

from .config.loading import read_yaml
from .errors import ConfigError

METHODS = {"ssnm": "coseg", "osmn": "video", "deepco3": "instances"}  # name in configs and model files -> folder


def part(method: str, module: str, where: str = "") -> ModuleType:
    """A module of a method's folder, such as `build` or `train`; imported when asked for.

    Raises:
        ConfigError: a method that the table does not have.
    """
    if method not in METHODS:
        raise ConfigError(f"{where + ': ' if where else ''}method must be one of {', '.join(METHODS)}, got '{method}'")
    name = f"{__package__}.{METHODS[method]}.{module}"
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{where + ': ' if where else ''}method {method} has no {module}; deepco3 is fitted to each "
                          "group of images: ssnm instances, or ssnm test with its config")  # fmt: skip
    return importlib.import_module(name)


def config_of(mapping: dict, where: str = "config") -> Any:
    """The config of the method that `mapping` names; `ssnm` where it names none."""
    return part(str(mapping.get("method", "ssnm")), "config", where).config_from_dict(mapping, where)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Read a YAML file and apply `key.sub=value` overrides; see :func:`ssnm.config.loading.read_yaml`.

    Raises:
        MissingFileError, ConfigError: no such file; it is not YAML, or a key or value is wrong.
    """
    return config_of(read_yaml(path, overrides), str(path))
