"""YAML and dotted overrides -> :class:`Config`, with errors that name the key; and back."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from ..coseg.config import LOSS_TYPES, MODEL_TYPES, AnyLossConfig, AnyModelConfig, Config, DataConfig
from ..errors import ConfigError, MissingFileError
from .sources import SOURCE_TYPES, SourceConfig


def load_config(path: str | Path, overrides: typing.Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `key.sub=value` overrides.

    Raises:
        MissingFileError: no such file.
        ConfigError: it is not YAML, or a key or value is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such config file; configs/ in the repository holds examples")
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(mapping, dict):
        raise ConfigError(f"{path}: a file of sections (key: value) was expected, got {mapping!r:.60}")
    return config_from_dict(apply_overrides(mapping, overrides), where=str(path))


def apply_overrides(mapping: dict, overrides: typing.Sequence[str]) -> dict:
    """`["train.lr=1e-5", "data.sources.0.root=voc"]` into a nested mapping; a copy comes back."""
    result = yaml.safe_load(yaml.safe_dump(mapping))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set wants key.sub=value, got '{override}'")
        node, parts = result, key.strip().split(".")
        for part in parts[:-1]:
            if isinstance(node, list):
                node = _list_entry(node, part, key)
            else:
                node = node.setdefault(part, {})
            if not isinstance(node, (dict, list)):
                raise ConfigError(f"--set {override}: '{part}' is a value, not a section")
        value = _override_value(override, text)
        if isinstance(node, list):
            _list_entry(node, parts[-1], key)
            node[int(parts[-1])] = value
        else:
            node[parts[-1]] = value
    return result


def _override_value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML ({' '.join(str(error).split())})") from None


def _list_entry(node: list, part: str, key: str) -> Any:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {key}: '{part}' must be a number from 0 to {len(node) - 1}")
    return node[int(part)]


def config_from_dict(mapping: dict, where: str = "config") -> Config:
    """A nested mapping (YAML or checkpoint) -> Config; `where` begins the error messages."""
    return _build(Config, mapping, where, "")


def config_to_dict(config: Any) -> dict:
    """Config -> nested plain values, ready for YAML or JSON; the inverse of :func:`config_from_dict`."""
    return _plain(dataclasses.asdict(config))


def config_to_yaml(config: Config) -> str:
    """The fully resolved configuration as YAML."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False)


def data_root(config: DataConfig) -> Path:
    """The folder under which relative source paths are looked up: data.root, else SSNM_DATA, else ./data."""
    return Path(config.root or os.environ.get("SSNM_DATA") or "data")


def resolve(config: DataConfig, path: str) -> Path:
    """Where a path of a config is: an absolute path as it is; a relative one under :func:`data_root`, or, if
    nothing is there but under the current folder, there."""
    under_root = data_root(config) / path
    return Path(path) if not under_root.exists() and Path(path).exists() else under_root


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _build(cls: type, mapping: Any, where: str, prefix: str) -> Any:
    if not isinstance(mapping, dict):
        section = prefix.rstrip(".") or "the file"
        raise ConfigError(f"{where}: {section} must be a section (key: value), got {mapping!r}")
    hints = typing.get_type_hints(cls)
    for key in mapping:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(hints)}"
            raise ConfigError(f"{where}: unknown key '{prefix}{key}'; {hint}")
    for f in dataclasses.fields(cls):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in mapping:
            raise ConfigError(f"{where}: '{prefix}{f.name}' is missing and has no default")
    return cls(**{key: _convert(hints[key], value, where, f"{prefix}{key}") for key, value in mapping.items()})


def _convert(kind: Any, value: Any, where: str, key: str) -> Any:
    """`value` as the declared type, or a ConfigError that names the key, the type and what was got."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if kind in TAGGED:
            return _build_tagged(*TAGGED[kind], value, where, key)
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: {key} must be a list, got {value!r}")
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise ConfigError(f"{where}: {key} must have {len(arguments)} values, got {len(value)}")
        inner = [arguments[0]] * len(value) if Ellipsis in arguments else arguments
        return tuple(_convert(k, v, where, f"{key}.{i}") for i, (k, v) in enumerate(zip(inner, value)))
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where, f"{key}.")
    return _convert_plain(kind, value, where, key)


def _convert_plain(kind: type, value: Any, where: str, key: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, (str, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if math.isfinite(number) and number == int(number):
                return int(number)
    elif kind is float:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                return number
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"{where}: {key} must be of type {kind.__name__}, got {value!r}")


# One of several sections: (the key that says which, the sections by its value, its value where it is not given)
TAGGED: dict[Any, tuple[str, dict[str, type], str | None]] = {
    SourceConfig: ("type", SOURCE_TYPES, None),
    AnyModelConfig: ("name", MODEL_TYPES, "ssnm"),
    AnyLossConfig: ("type", LOSS_TYPES, "coseg"),
}


def _build_tagged(tag: str, types_: dict[str, type], default: str | None, value: Any, where: str, key: str) -> Any:
    if default is not None and not isinstance(value, dict):
        return _build(types_[default], value, where, f"{key}.")  # says that a section was expected
    got = value.get(tag, default) if isinstance(value, dict) else value
    if not isinstance(value, dict) or str(got) not in types_:
        raise ConfigError(f"{where}: {key}.{tag} must be one of {', '.join(types_)}, got {got!r}")
    return _build(types_[str(got)], value, where, f"{key}.")
