"""TOML and JSON files, read within bounds."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Bytes of the largest table: descriptions, recipes and indexes have some kilobytes.
LARGEST = 16 * 2**20

# Whole numbers in TOML have 64 bits; JSON has no bound of its own.
INTEGER_BITS = 63

# Parts of a dotted key; Python's reader takes time with the square of their number.
LONGEST_KEY = 64
_PART = r"[A-Za-z0-9_-]+[ \t]*\.[ \t]*"
_DOTTED = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}){{{LONGEST_KEY}}}")


class BadTable(ValueError):
    """A file is not the table that it should be; the text says why, without its name."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError: It cannot be read.
        BadTable: It is not TOML in UTF-8, or beyond a bound.
    """
    return parse_toml(read_text(path))


def read_json(path: Path) -> Any:
    """Read a JSON file; errors as for `read_toml`."""
    return parse_json(read_text(path))


def read_text(path: Path) -> str:
    """Read a text in UTF-8 of at most `LARGEST` bytes; errors as for `read_toml`."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
        raise BadTable("not a regular file")
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadTable(f"larger than {LARGEST / 2**20:.0f} MB")

    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTable("not a text file in UTF-8") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML text.

    >>> parse_toml("[sr]\\nscale = 2")
    {'sr': {'scale': 2}}

    Raises:
        BadTable: It is not TOML, nested deeper than Python can follow, or has a whole number of
            more than 64 bits.
    """
    if _DOTTED.search(text):
        raise BadTable(f"not TOML that can be read: a key of more than {LONGEST_KEY} parts")

    table: dict[str, Any] = _parsed(tomllib.loads, text, "TOML")
    return table


def parse_json(text: str | bytes) -> Any:
    """Read JSON text; errors as for `parse_toml`."""
    return _parsed(json.loads, text, "JSON")


def _parsed(parse: Callable[[Any], Any], text: str | bytes, language: str) -> Any:
    try:
        table = parse(text)
        _check_numbers(table)
    except RecursionError:
        raise BadTable(f"not {language} that can be read: nested too deeply") from None
    except BadTable:
        raise
    except ValueError as error:
        too_long = "integer string conversion" in str(error)
        reason = "a whole number of thousands of digits" if too_long else error
        raise BadTable(f"not {language}: {reason}") from None

    return table


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        raise BadTable(f"a whole number beyond ±2^{INTEGER_BITS}")
