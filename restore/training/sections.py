"""Sections of a recipe: dataclasses from tables of TOML, with errors by section and key."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from restore.errors import BadArgument

# Keys of recipes and checkpoints from before they were renamed.
_FORMER_KEYS = {
    "share_unconditional": "unconditional_fraction",
    "high_share": "high_fraction",
    "noiseless_share": "noiseless_fraction",
}


def section_of(kind: type, table: Mapping[str, Any], at: str, source: str) -> Any:
    """Read a dataclass from a TOML table.

    Args:
        kind: the dataclass; limits of its fields are in their metadata.
        table: the table.
        at: name of the section, for messages; empty at the top.
        source: name of the file, for messages.

    Raises:
        BadArgument: an unknown key or an impossible value, which is named.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    values = {}

    for name, value in table.items():
        key = _FORMER_KEYS.get(name, name)
        if key not in known:
            raise BadArgument(
                f"{source}: {_place(at, key)} is no setting{_nearest(key, list(known))}"
            )
        values[key] = _value(value, hints[key], f"{at}.{key}" if at else key, source)
        _check_range(values[key], known[key].metadata.get("range"), _place(at, key), source)

    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise BadArgument(f"{source}: [{at}]: {error}") from None


def _value(value: Any, hint: Any, at: str, source: str) -> Any:
    """Return ``value`` as the type of ``hint``, or raise BadArgument."""
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin in (Union, types.UnionType):
        return _value(value, next(a for a in arguments if a is not type(None)), at, source)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return section_of(hint, value, at, source)
    if origin is tuple and isinstance(value, list | tuple):
        items = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) == len(value):
            return tuple(_value(v, item, at, source) for v, item in zip(value, items, strict=True))
    elif origin is Literal and value in arguments:
        return value
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return dict(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else _refuse(value, hint, at, source)
    elif (
        isinstance(hint, type)
        and not isinstance(value, bool if hint is int else ())
        and isinstance(value, hint)
    ):
        return value

    return _refuse(value, hint, at, source)


def _refuse(value: Any, hint: Any, at: str, source: str) -> Any:
    section, _, key = at.rpartition(".")
    raise BadArgument(f"{source}: {_place(section, key)} = {value!r}: must be {_wanted(hint)}")


def _wanted(hint: Any) -> str:
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin in (Union, types.UnionType):
        return _wanted(next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        count = "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}"
        return (
            f"{count}, each {_wanted(arguments[0])}"
            if len(set(arguments)) < 3
            else f"{count} values"
        )

    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}

    return words.get(hint, "a table")


def _check_range(value: Any, limits: tuple[float, float] | None, place: str, source: str) -> None:
    if limits is None:
        return

    low, high = limits
    for number in value if isinstance(value, tuple) else (value,):
        if not low <= number <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            shown = list(value) if isinstance(value, tuple) else value
            raise BadArgument(f"{source}: {place} = {shown}: must be {wanted}")


def _place(section: str, key: str) -> str:
    return f"[{section}] {key}" if section else f"[{key}]"


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
