"""Documentation of a task's options, beside the type and default of each field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    get_args,
    get_origin,
    get_type_hints,
)

from restore.errors import BadArgument
from restore.metrics.signal_noise import SignalNoise

if TYPE_CHECKING:
    from torch import Tensor

# Standard deviation of the noise for pixels in [0, 1], noise that depends on the signal, or one of
# either for each picture of a batch; ``auto`` and ``auto:signal`` estimate it.
Noise = (
    float | SignalNoise | Sequence[float] | Sequence[SignalNoise] | Literal["auto", "auto:signal"]
)

AUTO: Literal["auto"] = "auto"
AUTO_SIGNAL: Literal["auto:signal"] = "auto:signal"

_LEVEL = "a standard deviation between 0 and 1, or auto"

# Types that need PyTorch, which tasks import for type checkers alone.
_ABSENT = dict.fromkeys(
    (
        *("Condition", "Degradation", "Kernel", "Kind", "Operator", "Picture", "Raw"),
        *("Rounding", "StoredJpeg", "Tensor"),
    ),
    Any,
)


@dataclass(frozen=True)
class Option:
    """The documentation of a task's option, in the words of the command's help.

    Attributes:
        help: one sentence; ``IN`` stands for the input.
        words: values that a shell completes.
        parse: reads the value from text; None leaves that to the field's type.
        kind: type that a file of options may give, besides text that ``parse`` reads.
        required: True if the command has no default, even if Python has one.
        beside: True if the command may leave it out, because it finds a file beside the input.
        metavar: placeholder of the value in the help.
        evaluated: help in ``restore evaluate``, which takes the option if there is one, since it
            says how test images are degraded.
        implied: what a default of None means; None if that depends on the input.
    """

    help: str
    words: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    kind: type = str
    required: bool = False
    beside: bool = False
    metavar: str | None = None
    evaluated: str | None = None
    implied: Any = None


@dataclass(frozen=True)
class OptionField:
    """An option as a field of a task's dataclass.

    Attributes:
        name: name of the parameter in Python.
        type: type of its value, without None.
        default: default in Python; ``MISSING`` if there is none.
        option: its documentation.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def required(self) -> bool:
        """True if the command has no default."""
        return self.option.required or (self.default is MISSING and not self.option.beside)


@cache
def options_of(task: type) -> Mapping[str, OptionField]:
    """Return the documented options of a task's dataclass by name, in order."""
    hints = get_type_hints(task, None, _ABSENT, include_extras=True)
    found = ((field, hints[field.name]) for field in fields(task))
    return {
        field.name: _described(field, hint)
        for field, hint in found
        if get_origin(hint) is Annotated
    }


def evaluated_options_of(task: type) -> Mapping[str, OptionField]:
    """Return the options of a task that evaluations take, by name, in order."""
    own = options_of(task).items()
    return {name: field for name, field in own if field.option.evaluated is not None}


def _described(field: Field[Any], hint: Any) -> OptionField:
    plain, option = get_args(hint)
    kinds = [kind for kind in get_args(plain) if kind is not type(None)]
    return OptionField(field.name, kinds[0] if len(kinds) == 1 else plain, field.default, option)


def parse_noise(text: str) -> Noise:
    """Read a standard deviation, ``A:B`` for noise that depends on the signal, or ``auto``.

    Raises:
        BadArgument: the text is something else.
    """
    if text == AUTO:
        return AUTO
    if text == AUTO_SIGNAL:
        return AUTO_SIGNAL
    if ":" in text:
        return SignalNoise.read(text)
    try:
        return float(text)
    except ValueError:
        raise BadArgument(f"`noise`={text}: must be {_LEVEL}") from None


def parse_added_noise(text: str) -> float | SignalNoise:
    """Read the noise to add to test pictures, a standard deviation or ``A:B``.

    Raises:
        BadArgument: the text is something else.
    """
    noise = None if text in (AUTO, AUTO_SIGNAL) else parse_noise(text)
    if not isinstance(noise, float | SignalNoise):
        raise BadArgument(
            f"`noise`={text}: must be the standard deviation to add, between 0 and 1, or A:B"
        )

    return noise


# Option of tasks whose input may be noisy.
NOISE_OPTION = Option(
    "Standard deviation of the noise in IN, for pixels in [0, 1]; or auto.",
    (AUTO,),
    parse_noise,
    float,
)
# The same, for tasks that take noise that depends on the signal.
SIGNAL_NOISE_OPTION = Option(
    "Standard deviation of the noise in IN, for pixels in [0, 1]; A:B for the variance A x + B of "
    "a pixel x; or auto, or auto:signal, which estimates A and B.",
    (AUTO, AUTO_SIGNAL),
    parse_noise,
    float,
)


# Values of the option below.
JPEG_WORDS = ("auto", "off")

# Option of the tasks that use what a JPEG file says exactly.
JPEG_OPTION = Option(
    "auto uses the quantisation tables of a JPEG IN, where they are coarse enough to matter; off "
    "takes its pixels as they are. Default: auto.",
    JPEG_WORDS,
    implied=JPEG_WORDS[0],
)


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``.

    Raises:
        BadArgument: the text is something else.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise BadArgument(f"`size`={text}: must be WIDTHxHEIGHT in pixels, as in 640x480")

    return int(width), int(height)


def check_noise(
    noise: Noise | Tensor | None,
    *,
    signal: bool = False,
    task: str = "this task",
    others: str = "other tasks",
) -> None:
    """Refuse noise that is no standard deviation of pixels in [0, 1], or depends on the signal.

    Args:
        noise: the noise.
        signal: True to allow noise that depends on the signal.
        task: name of the task, for errors.
        others: those that take noise that depends on the signal, in words.

    Raises:
        BadArgument: a negative, infinite or too large number, other text than ``auto``, or noise
            that the task does not take.
    """
    if is_signal(noise):
        if not signal:
            raise BadArgument(
                f"`noise`={noise}: noise that depends on the signal is for {others}; {task} takes "
                f"{_LEVEL}"
            )
        return

    is_auto = isinstance(noise, str) and noise == AUTO
    levels = [] if is_auto else _levels(noise)
    if not all(0 <= level <= 1 for level in levels):
        raise BadArgument(f"`noise`={noise}: must be {_LEVEL}")


def _levels(noise: Any) -> list[float]:
    """Return the standard deviations of one or several pictures.

    Raises:
        BadArgument: some of them depend on the signal, or are no numbers.
    """
    if (alone := number(noise)) is not None:
        return [alone]

    several = list(noise) if isinstance(noise, Iterable) else [noise]
    if any(isinstance(level, SignalNoise) for level in several):
        raise BadArgument("`noise`: give standard deviations, or pairs a:b, not both")

    levels = [number(level) for level in several]
    if isinstance(noise, str | bytes) or None in levels:
        raise BadArgument(f"`noise`={noise}: must be {_LEVEL}")
    return [level for level in levels if level is not None]


def number(value: Any) -> float | None:
    """Return a number of Python, NumPy or PyTorch; None for anything else, and for truth values.

    >>> number(0.5), number(1), number("0.5"), number(True)
    (0.5, 1.0, None, None)
    """
    single = value.item() if getattr(value, "ndim", None) == 0 else value
    is_number = isinstance(single, int | float) and not isinstance(single, bool)
    return float(single) if is_number else None


def is_signal(noise: Any) -> bool:
    """Return True for noise that depends on the signal, given or to be estimated.

    >>> is_signal(SignalNoise(0.01, 0)), is_signal("auto:signal"), is_signal(0.1), is_signal("auto")
    (True, True, False, False)
    """
    if isinstance(noise, str | SignalNoise):
        return noise == AUTO_SIGNAL or isinstance(noise, SignalNoise)
    several = isinstance(noise, Sequence) and len(noise) > 0
    return several and all(isinstance(one, SignalNoise) for one in noise)


def has_noise(noise: Noise | Tensor | None) -> bool:
    """Return True for a positive standard deviation, noise of the signal, or ``auto``.

    >>> has_noise("auto"), has_noise([0.0, 0.1]), has_noise(0.0)
    (True, True, False)
    """
    if noise is None or isinstance(noise, str):
        return noise is not None
    if is_signal(noise):
        return True
    return any(level > 0 for level in _levels(noise))


def check_within(name: str, value: float, lowest: float, highest: float, unit: str = "") -> None:
    """Refuse a number that is not finite or outside ``[lowest, highest]``.

    Raises:
        BadArgument: it is.
    """
    if not (math.isfinite(value) and lowest <= value <= highest):
        raise BadArgument(f"`{name}`={value:g}: must be between {lowest:g} and {highest:g}{unit}")
