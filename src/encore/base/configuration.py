"""Configuration: pydantic models that `--set key=value` changes and that refuse unknown keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from encore.base.errors import ConfigurationError, UnknownNameError

Settings = Mapping[str, Any]


class Configuration(BaseModel):
    """Base of every configuration: frozen, typed, finite, without room for misspelt keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_Configuration = TypeVar("_Configuration", bound=Configuration)


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` words; values are JSON where they can be (`0.1`, `true`, `[1,2]`), text otherwise.

    Raises:
        ConfigurationError: a word without `=`, or a key that comes twice.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigurationError(f"--set '{assignment}' is not key=value", "write for example --set epochs=20")
        if key in settings:
            raise ConfigurationError(f"--set gives '{key}' twice", "give each key once")
        try:
            settings[key] = json.loads(text)
        except json.JSONDecodeError:
            settings[key] = text
    return settings


def configure(kind: type[_Configuration], settings: Settings, defaults: Settings | None = None) -> _Configuration:
    """Build a configuration from defaults and settings; dotted keys reach into sections.

    A key without its section will do where one section alone has it: `gradient_noise` for `training.gradient_noise`.
    A key of the configuration itself comes first.

    Args:
        kind: the configuration's class.
        settings: what the user set (`{"epochs": 20, "augmentation.horizontal_flip": 0}`).
        defaults: values that replace the class's own defaults.

    Raises:
        UnknownNameError: a key that the configuration has not, with the nearest and the list.
        ConfigurationError: a value that does not fit, with the key and what is due; a key that several sections have;
            a key that comes twice, with and without its section.
    """
    values: dict[str, Any] = json.loads(json.dumps(dict(defaults or {})))
    whole_keys: dict[str, str] = {}
    for short, value in settings.items():
        key = _whole_key(kind, short)
        if key in whole_keys:
            raise ConfigurationError(f"'{whole_keys[key]}' and '{short}' are the same key", "give it once")
        whole_keys[key] = short
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    try:
        return kind.model_validate(_with_section_defaults(kind, values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        if first["type"] == "missing":
            raise ConfigurationError(f"'{where}' is missing", f"give {where}=VALUE") from error
        raise ConfigurationError(
            f"'{where}' cannot be {first.get('input')!r}",
            first["msg"].removeprefix("Value error, "),
        ) from error


def _with_section_defaults(kind: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what `kind` sets in its sections, where `values` sets something else in them.

    A field's default, `training: Training = Training(epochs=9)`, is replaced as a whole by pydantic.
    """
    completed = dict(values)
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        given = completed.get(name)
        if isinstance(default, BaseModel) and isinstance(given, dict):
            own = default.model_dump(mode="json", exclude_unset=True)
            completed[name] = _with_section_defaults(type(default), _merged(own, given))
    return completed


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Values of both, the second's where both have one; sections are merged alike."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(first.get(key), dict)
        merged[key] = _merged(first[key], value) if both else value
    return merged


def keys_of(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key that `--set` takes for `kind`, sections dotted; `name.*` where a section takes any key."""
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += keys_of(field.annotation, f"{prefix}{name}.")
        elif getattr(field.annotation, "__origin__", None) is dict:
            keys.append(f"{prefix}{name}.*")
        else:
            keys.append(prefix + name)
    return keys


def _whole_key(kind: type[BaseModel], key: str) -> str:
    """`key` with the section that it was written without.

    Raises:
        UnknownNameError: nothing has such a key.
        ConfigurationError: several sections have it.
    """
    known = keys_of(kind)
    open_sections = tuple(name.removesuffix("*") for name in known if name.endswith(".*"))
    if key in known or (open_sections and f"{key}.".startswith(open_sections)):
        return key
    meant = [name for name in known if name.endswith(f".{key}")]
    if len(meant) > 1:
        raise ConfigurationError(f"'{key}' is a key of several sections", f"write one of: {', '.join(meant)}")
    if not meant:
        raise UnknownNameError("key", key, known)
    return meant[0]
