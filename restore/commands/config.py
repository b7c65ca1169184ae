"""Options of the command from a TOML file.

>>> options = read_options(Path("mine.toml"), "sr", commands)  # doctest: +SKIP

A key is the name of an option, with dashes or underscores. Keys at the top are options of most
commands, for every command that has them; those of a section ``[sr]`` are for that command and take
precedence.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrained.tables import BadTable, read_toml
from restore.errors import BadArgument, FileAccess
from restore.tasks.inpaint import AUTO_SCRATCHES

Kind = type[int] | type[float] | type[str] | type[bool] | type[Path]

_WANTED: dict[Kind, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a text, the path of a file or folder",
}


@dataclass(frozen=True)
class Option:
    """An option that a file may set.

    Attributes:
        name: name of the option after ``--``.
        parameter: name of the parameter in Python.
        kind: type of the value.
        number_or_text: True if a number is allowed for its text, as for ``--noise``.
    """

    name: str
    parameter: str
    kind: Kind
    number_or_text: bool = False


# Options of each command by name.
Commands = Mapping[str, Mapping[str, Option]]


def read_options(path: Path, command: str, commands: Commands) -> dict[str, Any]:
    """Return the values that a file sets for a command, by names of parameters.

    Paths are relative to the folder of the file, also inside texts such as ``kernel =
    "file:k.png"``. All sections are checked for any command.

    Args:
        path: the file.
        command: name of the command.
        commands: options of all commands.

    Raises:
        FileAccess: the file does not exist or cannot be read.
        BadArgument: invalid TOML, an unknown key, or a value of the wrong type.
    """
    sections = _checked(_table(path), path, commands)
    options = commands[command]
    general = {name: value for name, value in sections[""].items() if name in options}
    values = {**general, **sections.get(command, {})}
    return {
        options[name].parameter: _placed(options[name], value, path.parent)
        for name, value in values.items()
    }


def _table(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise FileAccess(f"--config {path}: no such file") from None
    except OSError as error:
        raise FileAccess(f"--config {path}: cannot be read: {error.strerror or error}") from None
    except BadTable as error:
        raise BadArgument(f"--config {path}: {error}") from None


def _checked(table: Mapping[str, Any], path: Path, commands: Commands) -> dict[str, dict[str, Any]]:
    """Return checked values by section and name; the top is the section ""."""
    every = {name: option for options in commands.values() for name, option in options.items()}
    owners = Counter(name for options in commands.values() for name in options)
    common = {name: every[name] for name in every if 2 * owners[name] > len(commands)}
    top = {key: value for key, value in table.items() if key not in commands}

    for key in top:
        _refuse_misplaced(key, path, commands, common)

    sections = {"": _section(top, common, f"--config {path}:")}

    for command in table.keys() & commands.keys():
        if not isinstance(table[command], dict):
            raise BadArgument(
                f"--config {path}: {command} is a command; write its options below [{command}]"
            )
        sections[command] = _section(
            table[command], commands[command], f"--config {path}: [{command}]"
        )

    return sections


def _refuse_misplaced(
    key: str, path: Path, commands: Commands, common: Mapping[str, Option]
) -> None:
    """Refuse a section that is no command, and a key that most commands do not have."""
    name = _name(key)
    owners = [
        command for command, options in commands.items() if name in options and name not in common
    ]
    if owners:
        wanted = " or ".join(f"[{command}]" for command in owners)
        raise BadArgument(
            f"--config {path}: {key} is not an option of most commands; write it below {wanted}"
        )

    if name not in common:
        raise BadArgument(
            f"--config {path}: {key} is no option{_nearest(name, [*common, *commands])}"
        )


def _section(table: Mapping[str, Any], options: Mapping[str, Option], place: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = _name(key)
        if name not in options:
            raise BadArgument(f"{place} {key} is no option{_nearest(name, options)}")
        if name in values:
            raise BadArgument(f"{place} {key} is there twice, with a dash and with an underscore")
        values[name] = _value(value, options[name], f"{place} {key}")

    return values


def _value(value: Any, option: Option, place: str) -> Any:
    is_number = (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )
    if option.kind is float and is_number:
        return float(value)
    if option.number_or_text and is_number:
        return str(value)

    kind = str if option.kind is Path else option.kind
    if kind is not float and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value

    wanted = f"a number or {_WANTED[str]}" if option.number_or_text else _WANTED[option.kind]
    raise BadArgument(f"{place} = {value!r}: must be {wanted}")


def _name(key: str) -> str:
    return key.replace("_", "-")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _placed(option: Option, value: Any, folder: Path) -> Any:
    """Return the value of an option with files relative to the working folder."""
    if option.name == "mask" and value == AUTO_SCRATCHES:
        return value
    if option.kind is Path or (option.name == "model" and value.endswith(".safetensors")):
        return str(folder / value)
    if option.name in ("method", "start"):
        return _placed_network(
            value, folder, otherwise=str(folder / value) if option.name == "start" else value
        )
    if option.name in _OPERATOR_TEXTS:
        return _placed_text(value, _OPERATOR_TEXTS[option.name], folder)

    return value


# Options in the syntax of `operators.text`, which may name files, and their implied prefix.
_OPERATOR_TEXTS = {"operator": "", "kernel": "blur:"}


def _placed_network(text: str, folder: Path, otherwise: str) -> str:
    """Return ``spandrel:FILE`` with the folder of the file, or another value."""
    from restore.methods.feed_forward import PREFIX, is_feed_forward

    return PREFIX + str(folder / text.removeprefix(PREFIX)) if is_feed_forward(text) else otherwise


def _placed_text(text: str, before: str, folder: Path) -> str:
    """Return text with the folder of files such as ``file:k.png``; invalid text is unchanged."""
    import operators

    try:
        written = operators.parse(before + text)
    except ValueError:
        return text

    placed = written.in_folder(folder)
    return text if placed == written else str(placed).removeprefix(before)
