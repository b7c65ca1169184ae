"""Read degradations written as text: ``blur:gaussian:2+down:bicubic:4``.

A text is one or more parts joined by ``+``, applied from left to right. A part is a word of
`operators.vocabulary` and its parameters, all joined by ``:``. Parameters come in the word's order,
or as ``name=value`` after those. A value with one of ``: + = "`` in it is put between double
quotes, which are doubled inside: ``blur:file:"my:kernel.png"``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from operators.grammar import Degradation, Parameter, Part, Word, brief, check_length, given_names
from operators.vocabulary import WORDS


def parse(text: str) -> Degradation:
    """Read a degradation.

    >>> str(parse("blur:gaussian:2.0 + down:bicubic:4"))
    'blur:gaussian:2+down:bicubic:4'
    >>> parse("blur:gauss:2")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: in 'blur:gauss:2': unknown kind 'gauss' of blur; did you mean 'gaussian'? kinds ...

    Args:
        text: One or more parts joined by ``+``, applied from left to right.

    Raises:
        ValueError: Unknown or malformed text; the message names the part, says what is wrong and
            what would be right.
    """
    check_length(text)
    if not text.strip():
        raise ValueError(
            "an operator is written as in blur:gaussian:2+down:bicubic:4; this one is empty"
        )
    if text.count('"') % 2:
        raise ValueError(f"a double quote in {brief(text)!r} is not closed")

    pieces = [piece.strip() for piece in _split(text, "+")]
    return Degradation(
        tuple(_part(piece, place, len(pieces)) for place, piece in enumerate(pieces, 1))
    )


def _part(text: str, place: int, places: int) -> Part:
    try:
        return _read_part(text)
    except ValueError as error:
        where = (
            f"part {place} of {places}, {brief(text)!r}" if places > 1 else f"in {brief(text)!r}"
        )
        raise ValueError(f"{where}: {error}") from None


def _read_part(text: str) -> Part:
    if not text:
        raise ValueError("nothing between two + signs")

    pieces = [piece.strip() for piece in _split(text, ":")]
    word, rest = _word(pieces)
    given = _given(word, rest)

    missing = [p for p in word.parameters if p.required and p.name not in given_names(word, given)]
    if missing:
        raise ValueError(
            f"{missing[0].name} is missing, {missing[0].about}; written as {word.usage}"
        )

    return Part(word, tuple(given))


def _given(word: Word, pieces: Sequence[str]) -> list[tuple[str | None, Any]]:
    """Read the parameters of a word: (name or None, value) of each."""
    known = {p.name: p for p in word.parameters}
    given: list[tuple[str | None, Any]] = []

    for piece in pieces:
        name, value = _named(piece)
        if name is None and any(n is not None for n, _ in given):
            raise ValueError(f"{brief(piece)!r} must come before the parameters with names")
        if name is None and len(given) == len(word.parameters):
            raise ValueError(f"{brief(piece)!r} is one too many; written as {word.usage}")
        if name is None:
            given.append((None, _value(word.parameters[len(given)], value)))
            continue
        if name not in known:
            raise ValueError(
                f"no parameter {brief(name)!r}; {_alternatives('parameters', name, known)}"
            )
        if name in given_names(word, given):
            raise ValueError(f"{name} is given twice")
        given.append((name, _value(known[name], value)))

    return given


def _word(pieces: list[str]) -> tuple[Word, list[str]]:
    """Split a part into the word with the longest name that it begins with, and what follows."""
    two = ":".join(pieces[:2])
    if two in WORDS:
        return WORDS[two], pieces[2:]
    if pieces[0] in WORDS:
        return WORDS[pieces[0]], pieces[1:]
    if pieces[0] == "mask" and len(pieces) > 1 and _like_a_file(pieces[1]):
        return WORDS["mask:file"], pieces[1:]

    kinds = [name.partition(":")[2] for name in WORDS if name.startswith(f"{pieces[0]}:")]
    if kinds and len(pieces) > 1:
        raise ValueError(
            f"unknown kind {brief(pieces[1])!r} of {pieces[0]}; "
            f"{_alternatives('kinds', pieces[1], kinds)}"
        )
    if kinds:
        raise ValueError(f"what kind of {pieces[0]}? {_alternatives('kinds', '', kinds)}")

    names = list(dict.fromkeys(name.partition(":")[0] for name in WORDS))
    raise ValueError(
        f"unknown operator {brief(pieces[0])!r}; {_alternatives('operators', pieces[0], names)}"
    )


def _like_a_file(text: str) -> bool:
    """Return True for ``m.png``, but not for ``random`` mistyped."""
    return any(sign in text for sign in './\\"')


def _value(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.read(text)
    except ValueError as error:
        raise ValueError(
            f"{parameter.name} is {parameter.about}, not {brief(text)!r} ({error})"
        ) from None


def _named(piece: str) -> tuple[str | None, str]:
    """``name=value``, or (None, value), without quotes."""
    halves = _split(piece, "=")
    if len(halves) == 1:
        return None, _unquoted(piece)
    return halves[0].strip(), _unquoted("=".join(halves[1:]).strip())


def _alternatives(what: str, given: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """List the names that are known, after the one that is most like what was given."""
    near = difflib.get_close_matches(given, list(names), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}{what} are {', '.join(names) or 'none'}"


def _split(text: str, separator: str) -> list[str]:
    """Cut a text at the separators outside of double quotes."""
    pieces = [""]
    quoted = False
    for character in text:
        quoted ^= character == '"'
        if character == separator and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character

    return pieces


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"')
    return text
