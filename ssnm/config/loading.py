"""YAML and dotted overrides -> the frozen dataclasses of a method, with errors that name the key; and back.

Knows no method: which dataclass a file becomes is the business of :mod:`ssnm.methods`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ..errors import ConfigError, MissingFileError

C = TypeVar("C")


def read_yaml(path: str | Path, overrides: typing.Sequence[str] = ()) -> dict:
    """A config file as a nested mapping, with `key.sub=value` overrides applied.

    `extends: other.yaml` (beside the file that says so, one level) is the file whose keys this one changes: sections
    are merged key by key, lists and values are replaced.

    Raises:
        MissingFileError: no such file.
        ConfigError: it is not YAML, or not a file of sections.
    """
    path = Path(path)
    mapping = _read_mapping(path)
    if "extends" in mapping:
        other = path.parent / str(mapping.pop("extends"))
        if not other.is_file():
            raise MissingFileError(f"{path}: extends {other}, which does not exist; name a file beside it")
        base = _read_mapping(other)
        if "extends" in base:
            raise ConfigError(f"{path}: extends a file that extends another; one level is allowed, name that one")
        mapping = _merged(base, mapping)
    return apply_overrides(mapping, overrides)


class _Misread(yaml.YAMLError):
    """What YAML reads in another way than it looks; the text says where and how."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what it would otherwise pass over: a key that stands twice, and numbers of
    YAML 1.1 that hardly anyone means, octal 010 (8) and sexagesimal 1:30 (90)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = None if key_node.tag == "tag:yaml.org,2002:merge" else self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key is not None and isinstance(key, typing.Hashable):
                if key in seen:
                    raise _Misread(f"the key '{key}' stands twice, in lines {seen[key]} and {line}; join the two")
                seen[key] = line
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        text, integer = str(node.value), node.tag.endswith("int")
        value = self.construct_yaml_int(node) if integer else self.construct_yaml_float(node)
        digits = text.lstrip("+-").replace("_", "")
        octal = integer and len(digits) > 1 and digits.startswith("0") and digits.isdigit()
        if octal or ":" in text:
            kind, other = ("octal", str(int(digits))) if octal else ("sexagesimal", f"'{text}' in quotes for text")
            raise _Misread(f"line {node.start_mark.line + 1}: {text} is {kind} in YAML and was read as {value}; "
                           f"write {value}, or {other}")  # fmt: skip
        return value


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def _read_mapping(path: Path) -> dict:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such config file; configs/ in the repository holds examples")
    try:
        mapping = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, _Misread):
            raise ConfigError(f"{path}: {error}") from None
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if mapping is None:
        raise ConfigError(f"{path}: the file is empty; a file of sections (key: value) was expected")
    if not isinstance(mapping, dict):
        raise ConfigError(f"{path}: a file of sections (key: value) was expected, got {mapping!r:.60}")
    return mapping


def _merged(base: dict, changes: dict) -> dict:
    """`base` with the values of `changes`; sections that both have are merged."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


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
        return yaml.load(text, _Loader) if text.strip() else ""
    except _Misread as error:
        raise ConfigError(f"--set {override}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML ({' '.join(str(error).split())})") from None


def _list_entry(node: list, part: str, key: str) -> Any:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {key}: '{part}' must be a number from 0 to {len(node) - 1}")
    return node[int(part)]


def build_section(kind: type[C], mapping: dict, where: str = "config", prefix: str = "") -> C:
    """A nested mapping (YAML or checkpoint) -> the dataclass `kind`, or one of the dataclasses of a union `kind`.

    Args:
        where: begins the error messages: the file.
        prefix: of the keys in the error messages, as ``model.``.

    Raises:
        ConfigError: an unknown or missing key, a value of another type; a rule of the dataclass's own.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _convert(kind, mapping, where, prefix.rstrip("."))
    return _build(kind, mapping, where, prefix)


def config_to_dict(config: Any) -> dict:
    """Config -> nested plain values, ready for YAML or JSON; the inverse of :func:`build_section`."""
    return _plain(dataclasses.asdict(config))


def config_to_yaml(config: Any) -> str:
    """The fully resolved configuration as YAML."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False)


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Keys of two resolved configs that differ, as ``train.lr 0.0001 -> 1e-05``; lists by their key alone."""
    found = []
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lists = isinstance(before, list) or isinstance(after, list)
            found.append(f"{prefix}{key}" + ("" if lists else f" {before} -> {after}"))
    return found



def check_resumable(saved: dict[str, Any], config: Any, parse: Callable[[dict, str], Any], path: Path) -> str:
    """One line about going on with `config` from the training checkpoint `saved`: where, and what differs from then.

    parse: the method's config_from_dict, which gives keys that are younger than the checkpoint their defaults.

    Raises:
        ConfigError: the checkpoint is of another method or holds another model.
    """
    if saved["method"] != config.method:
        raise ConfigError(f"{path} is of method {saved['method']}, this config of {config.method}")
    before = parse(saved["config"], str(path))
    if before.model != config.model:
        raise ConfigError(f"{path} holds another model than this config; use the config.yaml of its run folder")
    changed = differences(config_to_dict(before), config_to_dict(config))
    line = f"resumed from {path} at step {saved['step']}"
    return line + (f"; changed since: {', '.join(changed)}" if changed else "")


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
        if _required(f) and f.name not in mapping:
            raise ConfigError(f"{where}: '{prefix}{f.name}' is missing and has no default")
    return cls(**{key: _convert(hints[key], value, where, f"{prefix}{key}") for key, value in mapping.items()})


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str, key: str) -> Any:
    """`value` as the declared type, or a ConfigError that names the key, the type and what was got."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if all(map(dataclasses.is_dataclass, arguments)):
            return _build_tagged(arguments, value, where, key)
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


def _build_tagged(kinds: tuple[type, ...], value: Any, where: str, key: str) -> Any:
    """One of several sections. Which one, says the key whose type is a Literal of one value in each of them; where
    it is not given it is the first of them, if that one has no required key."""
    tag = next(f.name for f in dataclasses.fields(kinds[0]) if len(_literals(kinds[0], f.name)) == 1)
    by_name = {_literals(kind, tag)[0]: kind for kind in kinds}
    default = None if any(map(_required, dataclasses.fields(kinds[0]))) else next(iter(by_name))
    if default is not None and not isinstance(value, dict):
        return _build(by_name[default], value, where, f"{key}.")  # says that a section was expected
    got = value.get(tag, default) if isinstance(value, dict) else value
    if not isinstance(value, dict) or str(got) not in by_name:
        raise ConfigError(f"{where}: {key}.{tag} must be one of {', '.join(by_name)}, got {got!r}")
    return _build(by_name[str(got)], value, where, f"{key}.")


def _literals(kind: type, name: str) -> tuple:
    hint = typing.get_type_hints(kind)[name]
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
