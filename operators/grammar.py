"""What a degradation written as text consists of: words, parameters, parts; and how it is printed.

`operators.vocabulary` has the words, `operators.text` reads a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from operators.base import LinearOperator, Shape
from operators.nonlinear import NonlinearChain, NonlinearOperator, chain

Result = TypeVar("Result")

# Characters of the longest text that is read: longer ones are mistaken files.
LONGEST_TEXT = 10_000

# Characters of a text that an error shows, at its beginning and at its end.
_SHOWN = 200, 100

# The default of a parameter that must be given.
REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a word.

    Attributes:
        name: Name as it is written before ``=``.
        read: Turns its text into a value; its ValueError says what would be right.
        about: What it is, with its unit.
        default: Value where it is not given.
        unit: Its unit in a word, if it has one.
    """

    name: str
    read: Callable[[str], Any]
    about: str
    default: Any = REQUIRED
    unit: str = ""

    @property
    def required(self) -> bool:
        """True if it has no default."""
        return self.default is REQUIRED


def same_shape(output_shape: Shape, **_: Any) -> Shape:
    """Return the shape of a measurement that its picture has as well: a `Word.grow`."""
    return output_shape


@dataclass(frozen=True)
class Word:
    """A degradation that has a name.

    Attributes:
        name: One or two words joined by ``:``.
        about: What it does, in one line.
        parameters: Its parameters in the order in which they are written.
        build: ``build(input_shape, **values)`` makes the operator for pictures of that shape
            (C, H, W).
        example: A text that works.
        grow: ``grow(output_shape, **values)`` is the shape of the pictures whose measurement has
            the given one.
        channels: ``channels(**values)`` is the number of channels measured of a colour picture;
            None is 3.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    build: Callable[..., LinearOperator | NonlinearOperator]
    example: str
    grow: Callable[..., Shape] = same_shape
    channels: Callable[..., int] | None = None

    @property
    def usage(self) -> str:
        """``blur:gaussian:SIGMA[:across=…]``: required parameters in capitals, others by name."""
        required = [p.name.upper() for p in self.parameters if p.required]
        optional = [f"[:{p.name}={shown(p.default)}]" for p in self.parameters if not p.required]
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
        """Return usage, what it does, every parameter with unit and default, and an example."""
        rows = [
            f"  {p.name:<10} {p.about}" + ("" if p.required else f"; default {shown(p.default)}")
            for p in self.parameters
        ]
        return "\n".join([self.usage, f"  {self.about}", *rows, f"  as in      {self.example}", ""])


@dataclass(frozen=True, eq=False)
class Part:
    """One degradation of a text: a word with the parameters that were given.

    Parts with the same word and equal values are equal, however they were written.

    Attributes:
        word: The word.
        given: (name, value) of each given parameter, in the order of the text; the name is None
            where the parameter was given by its place.
    """

    word: Word
    given: tuple[tuple[str | None, Any], ...]

    @property
    def values(self) -> dict[str, Any]:
        """Every parameter by its name, defaults included."""
        values = {p.name: p.default for p in self.word.parameters}
        names = given_names(self.word, self.given)
        return values | {name: value for name, (_, value) in zip(names, self.given, strict=True)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Part):
            return False
        return self.word.name == other.word.name and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.word.name)

    @property
    def file(self) -> Path | None:
        """File that the part names, or None."""
        path = self.values.get("path")
        return None if path is None else Path(path)

    def in_folder(self, folder: Path) -> Part:
        """Return the part with its path, if it has one, taken relative to ``folder``."""
        names = given_names(self.word, self.given)
        given = [
            (name, str(folder / value) if full == "path" else value)
            for (name, value), full in zip(self.given, names, strict=True)
        ]
        return Part(self.word, tuple(given))

    def gives(self, name: str) -> bool:
        """Return True if the text has a value for this parameter."""
        return name in given_names(self.word, self.given)

    def unless_given(self, name: str, value: Any) -> Part:
        """Return the part with this value of a parameter, if the text gave none."""
        if self.gives(name):
            return self
        return Part(self.word, (*self.given, (name, value)))

    def __str__(self) -> str:
        given = [
            shown(value) if name is None else f"{name}={shown(value)}" for name, value in self.given
        ]
        return ":".join([self.word.name, *given])

    def build(self, input_shape: Shape) -> LinearOperator | NonlinearOperator:
        """Make the operator for pictures of this shape; errors name the part."""
        return self._naming(self.word.build, input_shape)

    def grow(self, output_shape: Shape) -> Shape:
        """Return the shape of the pictures whose measurement has this one; errors name the part."""
        return self._naming(self.word.grow, output_shape)

    def _naming(self, function: Callable[..., Result], shape: Shape) -> Result:
        try:
            return function(shape, **self.values)
        except OSError as error:
            raise OSError(
                error.errno, f"in {brief(str(self))!r}: {error.strerror or error}", error.filename
            ) from error
        except ValueError as error:
            raise ValueError(f"in {brief(str(self))!r}: {error}") from None


@dataclass(frozen=True)
class Degradation:
    """A degradation that was read from a text by `operators.parse`; ``str`` gives the text back.

    >>> import operators
    >>> degradation = operators.parse("blur:gaussian:2+down:bicubic:4")
    >>> degradation.operator((3, 48, 64)).output_shape
    (3, 12, 16)
    >>> degradation.input_shape((3, 12, 16))
    (3, 48, 64)

    Attributes:
        parts: Its parts in the order in which they degrade a picture.
    """

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)

    @property
    def measured_channels(self) -> int:
        """Number of channels that are measured of a colour picture."""
        mixed = [p.word.channels(**p.values) for p in self.parts if p.word.channels is not None]
        return mixed[-1] if mixed else 3

    @property
    def files(self) -> list[Path]:
        """Files of kernels and masks that the text names."""
        return [part.file for part in self.parts if part.file is not None]

    def in_folder(self, folder: Path) -> Degradation:
        """Return the degradation with its paths taken relative to ``folder``."""
        return Degradation(tuple(part.in_folder(folder) for part in self.parts))

    def operator(self, input_shape: Shape) -> LinearOperator | NonlinearChain:
        """Make the operator for pictures of this shape (C, H, W), the last part leftmost.

        Raises:
            ValueError: A part does not fit its pictures; the message names it.
            OSError: A file of a kernel or mask cannot be read.
        """
        operators: list[LinearOperator | NonlinearOperator] = []
        shape = input_shape
        for part in self.parts:
            operators.append(part.build(shape))
            shape = getattr(operators[-1], "output_shape", shape)

        return chain(operators, input_shape)

    def input_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of the pictures whose measurement has this one.

        Raises:
            ValueError: The measurement does not tell how large its picture was, or a part does not
                fit it.
            OSError: A file of a kernel cannot be read.
        """
        for part in reversed(self.parts):
            output_shape = part.grow(output_shape)
        return output_shape

    def operator_for(self, output_shape: Shape) -> LinearOperator | NonlinearChain:
        """Make the operator whose measurement has this shape (C, H, W).

        Raises:
            ValueError: As `operator`; or the measurement does not tell how large its picture was,
                as with ``hadamard``.
            OSError: A file of a kernel or mask cannot be read.
        """
        operator = self.operator(self.input_shape(output_shape))
        if operator.output_shape != tuple(output_shape):
            raise ValueError(
                f"{brief(str(self))!r} measures {_sizes(operator.output_shape)}, not "
                f"{_sizes(output_shape)} (channels x height x width)"
            )

        return operator


def check_length(text: str) -> None:
    """Refuse a text that nobody writes.

    Raises:
        ValueError: It is longer than `LONGEST_TEXT`.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"{brief(text)!r} has {len(text)} characters, more than the limit of {LONGEST_TEXT}"
        )


def brief(text: str) -> str:
    """Return a text for an error, without the middle of one that fills a page."""
    start, end = _SHOWN
    return text if len(text) <= start + end else f"{text[:start]}…{text[-end:]}"


def given_names(word: Word, given: Sequence[tuple[str | None, Any]]) -> list[str]:
    """Names of given parameters, those that were given by their place included."""
    return [name or word.parameters[place].name for place, (name, _) in enumerate(given)]


def quoted(text: str) -> str:
    """Put a text between double quotes if it holds a sign of the language or outer spaces."""
    special = not text or text != text.strip() or any(c in text for c in ':+="')
    return '"' + text.replace('"', '""') + '"' if special else text


def shown(value: Any) -> str:
    """Print a value of a parameter so that `operators.parse` reads it back.

    >>> shown((4.0, 2.5)), shown(True), shown(None), shown("a:b.png")
    ('4x2.5', 'yes', 'none', '"a:b.png"')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = f"{value:.12g}"
        # Without the + of an exponent, which would join two parts.
        return (short if float(short) == value else repr(value)).replace("e+", "e")
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return "/".join(",".join(shown(v) for v in row) for row in value)
    if isinstance(value, tuple):
        return "x".join(shown(v) for v in value)

    return quoted(str(value))


def _sizes(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)
