"""Text that is safe to show, whatever characters the name of a file has."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Categories of characters that act on a terminal, turn the direction of text, cannot be seen or
# cannot be encoded: control, format, surrogate, private, unassigned, line and paragraph separators.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# A word too long for a message, with the parts of it that are shown.
_LONG_WORD = re.compile(r"(?<!\S)(\S{200})\S{101,}(\S{100})(?!\S)")
# Of these, what spelling needs: the non-joiner of Persian, the joiner of Indic scripts and emoji.
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
    r"""Write characters that act on a terminal or cannot be seen as escapes of Python.

    All messages, errors and lines of results pass through it, so that a name cannot move the
    cursor, forge a line or turn the direction of text. A text that is visible stays as it is.

    >>> print(visible("a\x1b[2J\n\u202egnp.png"))
    a\x1b[2J\n\u202egnp.png
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_hidden(c) else c for c in text)


def shortened(text: str) -> str:
    """Cut the middle out of every word that would fill a page, such as the content of a file.

    >>> shortened(f"no {'x' * 999} here") == f"no {'x' * 200}…{'x' * 100} here"
    True
    """
    return _LONG_WORD.sub(r"\1…\2", text)


def encodable(text: str, encoding: str | None) -> str:
    r"""Write characters that an encoding lacks as escapes; None is UTF-8.

    >>> encodable("a写.png", "cp1252")
    'a\\u5199.png'
    """
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def as_json(
    record: Mapping[str, Any], encoding: str | None = None, indent: int | None = None
) -> str:
    r"""Format a record as JSON that an encoding has and a terminal shows as it is.

    >>> as_json({"input": "ü.png"}, "latin-1"), as_json({"input": "ü.png"}, "ascii")
    ('{"input": "ü.png"}', '{"input": "\\u00fc.png"}')
    """
    text = json.dumps(record, ensure_ascii=False, indent=indent)
    shown = "\n".join(map(visible, text.split("\n")))
    safe = encodable(shown, encoding) == text

    return text if safe else json.dumps(record, indent=indent)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
