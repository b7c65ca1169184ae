"""Degradations written as text: ``blur:gaussian:2+down:bicubic:4``.

A text is one or more parts joined by ``+``, applied from left to right. A part is a word of
`operators.vocabulary` and its parameters, all joined by ``:``. Parameters come in the word's order,
or as ``name=value`` after those. What holds one of ``: + = "`` is put between double quotes, which
are doubled inside: ``blur:file:"my:kernel.png"``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators.base import LinearOperator, Shape
from operators.composition import compose
from operators.nonlinear import NonlinearChain, NonlinearOperator

REQUIRED = object()
"""The default of a parameter that must be given."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a word.

    Attributes:
        name: as it is written before ``=``.
        read: turns its text into a value; a ValueError says what would be right.
        about: what it is, with its unit.
        default: its value where it is not given.
        unit: in a word, if it has one.
    """

    name: str
    read: Callable[[str], Any]
    about: str
    default: Any = REQUIRED
    unit: str = ""


@dataclass(frozen=True)
class Word:
    """A degradation that has a name.

    Attributes:
        name: one or two words joined by ``:``.
        about: what it does, in one line.
        parameters: in the order in which they are written.
        build: ``build(input_shape, **values)`` makes the operator for pictures of that shape (C, H,
            W).
        grow: ``grow(output_shape, **values)`` is the shape of the pictures whose measurement has
            the given one.
        example: a text that works.
        channels: ``channels(**values)`` is the number of channels measured of a colour picture, if
            not 3.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    build: Callable[..., LinearOperator | NonlinearOperator]
    grow: Callable[..., Shape]
    example: str
    channels: Callable[..., int] | None = None

    @property
    def usage(self) -> str:
        """``blur:gaussian:SIGMA[:across=…]``: what must be given in capitals, the rest by name."""
        required = [p.name.upper() for p in self.parameters if p.default is REQUIRED]
        optional = [
            f"[:{p.name}={_shown(p.default)}]" for p in self.parameters if p.default is not REQUIRED
        ]
        return ":".join([self.name, *required]) + "".join(optional)

    @property
    def line(self) -> str:
        """Usage with defaults, what it does, and units."""
        units: dict[str, list[str]] = {}
        for parameter in self.parameters:
            if parameter.unit:
                units.setdefault(parameter.unit, []).append(parameter.name)
        told = "; ".join(f"{', '.join(names)} in {unit}" for unit, names in units.items())
        return f"{self.usage}  {self.about}{f' ({told})' if told else ''}"

    def describe(self) -> str:
        """Usage, what it does, every parameter with its unit and default, and an example."""
        rows = [
            f"  {p.name:<10} {p.about}"
            + ("" if p.default is REQUIRED else f"; default {_shown(p.default)}")
            for p in self.parameters
        ]
        return "\n".join([self.usage, f"  {self.about}", *rows, f"  as in      {self.example}", ""])


@dataclass(frozen=True, eq=False)
class Part:
    """One degradation of a text: a word with the parameters that were given. Equal are those with
    equal values.
    """

    word: Word
    given: tuple[tuple[str | None, Any], ...]
    """(name or None where it was given by its place, value)."""

    @property
    def values(self) -> dict[str, Any]:
        """Every parameter by its name, defaults included."""
        values = {p.name: p.default for p in self.word.parameters}
        for place, (name, value) in enumerate(self.given):
            values[name or self.word.parameters[place].name] = value
        return values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.word.name, self.values) == (
            other.word.name,
            other.values,
        )

    def __hash__(self) -> int:
        return hash(self.word.name)

    @property
    def file(self) -> Path | None:
        """The file that it names, if it does."""
        path = self.values.get("path")
        return None if path is None else Path(path)

    def in_folder(self, folder: Path) -> Part:
        """With its path, if it has one, as it is from anywhere."""
        names = [
            name or p.name for (name, _), p in zip(self.given, self.word.parameters, strict=False)
        ]
        given = [
            (name, str(folder / value) if full == "path" else value)
            for (name, value), full in zip(self.given, names, strict=True)
        ]
        return Part(self.word, tuple(given))

    def gives(self, name: str) -> bool:
        """Whether the text has a value for this parameter."""
        return name in _given_names(self.word, self.given)

    def unless_given(self, name: str, value: Any) -> Part:
        """With this value of a parameter, if the text gave none."""
        if self.gives(name):
            return self
        return Part(self.word, (*self.given, (name, value)))

    def __str__(self) -> str:
        return ":".join(
            [
                self.word.name,
                *(_shown(v) if n is None else f"{n}={_shown(v)}" for n, v in self.given),
            ]
        )

    def build(self, input_shape: Shape) -> LinearOperator | NonlinearOperator:
        """The operator for pictures of this shape; errors name the part."""
        return self._naming(self.word.build, input_shape)

    def grow(self, output_shape: Shape) -> Shape:
        """The shape of the pictures whose measurement has the given one; errors name the part."""
        return self._naming(self.word.grow, output_shape)

    def _naming(self, function: Callable[..., Any], shape: Shape) -> Any:
        try:
            return function(shape, **self.values)
        except OSError as error:
            raise OSError(
                error.errno, f"in {str(self)!r}: {error.strerror or error}", error.filename
            ) from error
        except ValueError as error:
            raise ValueError(f"in {str(self)!r}: {error}") from None


@dataclass(frozen=True)
class Degradation:
    """A text that was read. ``str`` gives it back, ``parse(str(d)) == d``.

    Attributes:
        parts: in the order in which they degrade a picture.
    """

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)

    @property
    def measured_channels(self) -> int:
        """Of a colour picture."""
        mixed = [p.word.channels(**p.values) for p in self.parts if p.word.channels is not None]
        return mixed[-1] if mixed else 3

    def operator(self, input_shape: Shape) -> LinearOperator | NonlinearChain:
        """The operator for pictures of this shape (C, H, W): the product of the parts, last one
        leftmost.

        Raises:
            ValueError: a part does not fit its pictures; the message names it.
            OSError: a file of a kernel or mask cannot be read.
        """
        operators: list[LinearOperator | NonlinearOperator] = []
        shape = input_shape
        for part in self.parts:
            operators.append(part.build(shape))
            shape = getattr(operators[-1], "output_shape", shape)
        return chain(operators, input_shape)

    def input_shape(self, output_shape: Shape) -> Shape:
        """The shape of the pictures whose measurement has the given one; errors as
        `operator_for`.
        """
        for part in reversed(self.parts):
            output_shape = part.grow(output_shape)
        return output_shape

    @property
    def files(self) -> list[Path]:
        """The files of kernels and masks that the text names."""
        return [part.file for part in self.parts if part.file is not None]

    def in_folder(self, folder: Path) -> Degradation:
        """With the paths of files as they are from anywhere."""
        return Degradation(tuple(part.in_folder(folder) for part in self.parts))

    def operator_for(self, output_shape: Shape) -> LinearOperator | NonlinearChain:
        """The operator whose measurement has this shape (C, H, W).

        Raises:
            ValueError: as `operator`; or the measurement does not tell how large its picture was,
                as of ``hadamard``.
            OSError: a file of a kernel or mask cannot be read.
        """
        operator = self.operator(self.input_shape(output_shape))
        if operator.output_shape != tuple(output_shape):
            raise ValueError(
                f"{str(self)!r} measures {_as_text(operator.output_shape)}, not "
                f"{_as_text(output_shape)} (channels x height x width)"
            )

        return operator


def chain(
    operators: Sequence[LinearOperator | NonlinearOperator], input_shape: Shape
) -> LinearOperator | NonlinearChain:
    """The first operator first; linear neighbours are composed, see `operators.compose`."""
    merged: list[LinearOperator | NonlinearOperator] = []
    for operator in operators:
        if (
            merged
            and isinstance(operator, LinearOperator)
            and isinstance(merged[-1], LinearOperator)
        ):
            operator = compose(operator, merged.pop())
        merged.append(operator)

    if len(merged) == 1 and isinstance(merged[0], LinearOperator):
        return merged[0]

    return NonlinearChain(merged, input_shape)


def parse(text: str) -> Degradation:
    """Read a degradation.

    Raises:
        ValueError: unknown or malformed text; the message names the part, says what is wrong and
            what would be right.
    """
    from operators.vocabulary import WORDS

    if not text.strip():
        raise ValueError(
            "an operator is written as in blur:gaussian:2+down:bicubic:4; this one is empty"
        )
    if text.count('"') % 2:
        raise ValueError(f"a double quote in {text!r} is not closed")

    pieces = _split(text, "+")

    return Degradation(
        tuple(_part(piece, place, len(pieces), WORDS) for place, piece in enumerate(pieces, 1))
    )


def _part(text: str, place: int, places: int, words: Mapping[str, Word]) -> Part:
    where = (
        f"part {place} of {places}, {text.strip()!r}: " if places > 1 else f"in {text.strip()!r}: "
    )
    try:
        return _read_part(text.strip(), words)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _read_part(text: str, words: Mapping[str, Word]) -> Part:
    if not text:
        raise ValueError("nothing between two + signs")

    pieces = [piece.strip() for piece in _split(text, ":")]
    word, rest = _word(pieces, words)
    known = {p.name: p for p in word.parameters}
    given: list[tuple[str | None, Any]] = []

    for piece in rest:
        name, value = _named(piece)
        if name is None and any(n is not None for n, _ in given):
            raise ValueError(f"{piece!r} must come before the parameters with names")
        if name is None and len(given) == len(word.parameters):
            raise ValueError(f"{piece!r} is one too many; written as {word.usage}")
        if name is None:
            given.append((None, _value(word.parameters[len(given)], value)))
            continue
        if name not in known:
            raise ValueError(f"no parameter {name!r}; {_known('parameters', name, known)}")
        if name in _given_names(word, given):
            raise ValueError(f"{name} is given twice")
        given.append((name, _value(known[name], value)))

    missing = [
        p
        for p in word.parameters
        if p.default is REQUIRED and p.name not in _given_names(word, given)
    ]
    if missing:
        raise ValueError(
            f"{missing[0].name} is missing, {missing[0].about}; written as {word.usage}"
        )

    return Part(word, tuple(given))


def _word(pieces: list[str], words: Mapping[str, Word]) -> tuple[Word, list[str]]:
    """The longest name that the text begins with, and what follows."""
    two = ":".join(pieces[:2])
    if two in words:
        return words[two], pieces[2:]
    if pieces[0] in words:
        return words[pieces[0]], pieces[1:]
    if pieces[0] == "mask" and len(pieces) > 1 and _like_a_file(pieces[1]):
        return words["mask:file"], pieces[1:]

    kinds = [name.partition(":")[2] for name in words if name.startswith(f"{pieces[0]}:")]
    if kinds and len(pieces) > 1:
        raise ValueError(
            f"unknown kind {pieces[1]!r} of {pieces[0]}; {_known('kinds', pieces[1], kinds)}"
        )
    if kinds:
        raise ValueError(f"what kind of {pieces[0]}? {_known('kinds', '', kinds)}")

    names = list(dict.fromkeys(name.partition(":")[0] for name in words))
    raise ValueError(f"unknown operator {pieces[0]!r}; {_known('operators', pieces[0], names)}")


def _like_a_file(text: str) -> bool:
    """``m.png``, but not ``random`` mistyped."""
    return any(sign in text for sign in './\\"')


def _value(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.read(text)
    except ValueError as error:
        raise ValueError(f"{parameter.name} is {parameter.about}, not {text!r} ({error})") from None


def _given_names(word: Word, given: Sequence[tuple[str | None, Any]]) -> list[str]:
    return [name or word.parameters[place].name for place, (name, _) in enumerate(given)]


def _named(piece: str) -> tuple[str | None, str]:
    """``name=value``, or (None, value), without quotes."""
    halves = _split(piece, "=")
    if len(halves) == 1:
        return None, _unquoted(piece)
    return halves[0].strip(), _unquoted("=".join(halves[1:]).strip())


def _known(what: str, given: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(given, list(names), 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}{what} are {', '.join(names) or 'none'}"


def _split(text: str, separator: str) -> list[str]:
    """Cut at separators outside of double quotes."""
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


def _quoted(text: str) -> str:
    special = not text or text != text.strip() or any(c in text for c in ':+="')
    return '"' + text.replace('"', '""') + '"' if special else text


def _shown(value: Any) -> str:
    """As `parse` reads it back."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = f"{value:.12g}"
        return (short if float(short) == value else repr(value)).replace("e+", "e")  # + joins parts
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return "/".join(",".join(_shown(v) for v in row) for row in value)
    if isinstance(value, tuple):
        return "x".join(_shown(v) for v in value)

    return _quoted(str(value))


def _as_text(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)
