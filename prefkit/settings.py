"""One grammar of configuration: pydantic models from YAML, ``--set a.b=c`` or Python arguments.

Each stage owns one ``Settings`` model; ``rounds/project.py`` composes them into prefkit.yaml.
All faults of a file are reported at once, each with its line, its value and the nearest key.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from prefkit.core.errors import ConfigError, from_os_error
from prefkit.core.registry import did_you_mean

S = TypeVar("S", bound="Settings")
Path_ = tuple[str | int, ...]


class Settings(BaseModel):
    """Base of every stage's settings: unknown keys and NaN or ±inf refused, values frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def read_settings(model: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Parse a YAML file into ``model``; ConfigError lists every fault with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, path) or error from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
        lines = _lines(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}:{line}: not YAML: {problem}") from None
    except ValueError as error:  # YAML reads 2026-02-31 as a date
        raise ConfigError(f"{path}: a value cannot be read: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply, or an alias within itself") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected keys and values, found {type(values).__name__}")
    return parse_settings(model, values, overrides, where=str(path), lines=lines)


def parse_settings(
    model: type[S],
    values: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    where: str = "settings",
    lines: Mapping[Path_, int] | None = None,
) -> S:
    """Validate ``values`` with ``overrides`` ("a.b=c", YAML values) laid over them."""
    merged: dict[str, Any] = _copy(values)
    places: dict[Path_, str] = {key: f"{where}:{line}" for key, line in (lines or {}).items()}
    for override in overrides:
        places[_lay_over(merged, override, model)] = f"--set {override}"
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_faults(model, error, where, places))) from None


def _copy(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {str(key): _copy(value) for key, value in values.items()}
    return values


def _lay_over(values: dict[str, Any], override: str, model: type[BaseModel]) -> Path_:
    """Set the value; the path of its key, one of ``model``'s if it is right."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {override!r}: expected KEY=VALUE", hint=f"for example --set {_example(model)}"
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override!r}: the value is not YAML") from None
    *parents, last = key.strip().split(".")
    at = values
    for parent in parents:
        below = at.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a section")
        at = below
    at[last] = value
    return (*parents, last)


def _example(model: type[BaseModel]) -> str:
    """A KEY=VALUE that ``model`` takes: its first plain value, at its default."""
    for name, field in model.model_fields.items():
        value = field.default
        if isinstance(value, BaseModel):
            return f"{name}.{_example(type(value))}"
        if isinstance(value, str | int | float):
            return f"{name}={value}"
    return "KEY=VALUE"


def _lines(node: yaml.Node | None, path: Path_ = ()) -> dict[Path_, int]:
    """The line (from 1) of every key of a composed YAML document."""
    found: dict[Path_, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            found[here] = key.start_mark.line + 1
            found.update(_lines(value, here))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            found[here] = value.start_mark.line + 1
            found.update(_lines(value, here))
    return found


def _faults(
    model: type[BaseModel], error: ValidationError, where: str, places: Mapping[Path_, str]
) -> list[str]:
    """One line a fault; ``places`` says where each key was written."""
    faults: list[str] = []
    for item in error.errors():
        path: Path_ = item["loc"]
        written = [path[:n] for n in range(len(path), 0, -1) if path[:n] in places]
        place = places[written[0]] if written else where
        key = ".".join(str(part) for part in path)
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, path[:-1])
            fault = f"unknown key {key!r}{did_you_mean(str(path[-1]), known)}"
            if known and "did you mean" not in fault:
                fault += f"; known: {', '.join(known)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = item["input"]
            # A whole section is no news to its author; a single value is.
            hidden = item["type"] == "missing" or isinstance(value, Mapping | list)
            shown = ": " if hidden else f" is {value!r}: "
            # What is wrong with the whole has no key.
            fault = f"{key + shown if key else ''}{message[:1].lower()}{message[1:]}"
        faults.append(f"{place}: {fault}")
    return faults


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    at: Any = model
    for part in path:
        if hasattr(at, "model_fields"):
            field = at.model_fields.get(str(part))
            at = None if field is None else field.annotation
        else:  # dict[str, Model]: any key leads to a Model
            at = get_args(at)[-1] if get_origin(at) is dict else None
    return list(at.model_fields) if hasattr(at, "model_fields") else []


def commented_yaml(settings: Settings, *, leave_out: Collection[str] = ()) -> str:
    """YAML of ``settings`` with every key's description as a comment above it.

    leave_out: dotted keys that are not written.
    """
    return "\n".join(_commented(settings, (), leave_out)) + "\n"


def _commented(settings: BaseModel, path: tuple[str, ...], leave_out: Collection[str]) -> list[str]:
    lines: list[str] = []
    indent = "  " * len(path)
    for name, field in type(settings).model_fields.items():
        here = (*path, name)
        if ".".join(here) in leave_out:
            continue
        value = getattr(settings, name)
        if not path and lines:
            lines.append("")
        if field.description:
            wrapped = textwrap.wrap(field.description, 96 - len(indent))
            lines += [f"{indent}# {line}" for line in wrapped]
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_commented(value, here, leave_out)]
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            lines += [indent + line for line in _value_lines(name, plain)]
    return lines


def _value_lines(name: str, value: Any) -> list[str]:
    """``name: value`` as YAML; text of several lines as a literal block that can be edited."""
    if isinstance(value, str) and "\n" in value.rstrip("\n"):
        keep = "|" if value.endswith("\n") and not value.endswith("\n\n") else "|-"
        block = [f"  {line}" if line else "" for line in value.rstrip("\n").split("\n")]
        if _reads_as("\n".join([f"x: {keep}", *block, ""]), {"x": value}):
            return [f"{name}: {keep}", *block]
    # A scalar or list alone, in one line; YAML ends a bare scalar with a "..." line.
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6)
    if "\n" in text.removesuffix("...\n").rstrip("\n"):  # text with a line break, folded
        text = yaml.safe_dump(value, default_style='"', default_flow_style=True, width=10**6)
    return [f"{name}: {text.splitlines()[0]}"]


def _reads_as(text: str, value: Any) -> bool:
    """Whether YAML text is read as ``value``; control characters cannot stand in a block."""
    try:
        return yaml.safe_load(text) == value
    except yaml.YAMLError:
        return False
