"""A number of its own that a method takes, such as a step size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from operators.grammar import brief, check_length
from restore.errors import BadArgument, of_option


@dataclass(frozen=True)
class Parameter:
    """A number that only this method takes.

    Attributes:
        name: name in Python and after ``--parameter``.
        default: value for kinds whose settings have none of their own.
        least: lowest value.
        most: highest value.
        help: what it does, with its unit and its symbol in the paper; one line.
        whole: True for whole numbers.
        is_steps: True if it is the number of network calls.
    """

    name: str
    default: float
    least: float
    most: float
    help: str
    whole: bool = False
    is_steps: bool = False

    def checked(self, value: float) -> float:
        """Return a value that is in range.

        Raises:
            BadArgument: it is not.
        """
        whole = not self.whole or float(value).is_integer()
        if math.isfinite(value) and self.least <= value <= self.most and whole:
            return value

        kind = "a whole number" if self.whole else "a number"
        raise BadArgument(
            f"`parameters`={self.name}={value:g}: must be {kind} from {self.least:g} to "
            f"{self.most:g}"
        )

    @property
    def line(self) -> str:
        """One line of help."""
        bounds = f"{self.least:g} to {self.most:g}, default {self.default:g}"
        return f"{self.name}: {self.help} ({bounds})"


def resolved(
    method: str,
    parameters: Sequence[Parameter],
    of_kind: Mapping[str, float],
    given: Mapping[str, float],
) -> dict[str, float]:
    """Return the value of each parameter: the user's, that of the kind of problem, or the default.

    Args:
        method: name of the method, for errors.
        parameters: those that the method takes.
        of_kind: values for the kind of problem.
        given: values of the user.

    Raises:
        BadArgument: a value out of range, or a parameter that the method does not take.
    """
    names = [parameter.name for parameter in parameters]
    for name in given:
        if name not in names:
            takes = f"it takes {', '.join(names)}" if names else "it takes none"
            raise BadArgument(
                f"`parameters`={brief(name)}: is not a parameter of {method}; {takes}"
            )

    return {
        one.name: one.checked(given.get(one.name, of_kind.get(one.name, one.default)))
        for one in parameters
    }


def parsed(text: str) -> dict[str, float]:
    """Read ``step_size=0.5,jump_length=10``.

    >>> parsed("step_size=0.5, jump_length=10")
    {'step_size': 0.5, 'jump_length': 10.0}

    Raises:
        BadArgument: it is not a list of names and numbers, or a name comes twice.
    """
    with of_option("parameters"):
        check_length(text)

    values: dict[str, float] = {}
    for item in text.split(","):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise BadArgument(
                f"`parameters`={brief(item.strip())}: must be NAME=NUMBER, several with commas "
                "between; restore methods lists them"
            ) from None
        if name in values:
            raise BadArgument(f"`parameters`={brief(text)}: {brief(name)} is there twice")
        values[name] = value

    return values
