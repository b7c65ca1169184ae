"""`restore methods`: list the methods with what they need and their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restore.commands.options import words
from restore.errors import BadArgument
from restore.methods import NAMES

if TYPE_CHECKING:
    from restore.methods import Method


def list_methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Show this method alone.", autocompletion=words(NAMES)
        ),
    ] = None,
) -> None:
    """List the methods for --method, with their numbers for --parameter."""
    from restore.methods import METHODS

    if name is not None and name not in METHODS:
        raise BadArgument(f"{name}: no such method; there are {', '.join(METHODS)}")

    for method in METHODS.values() if name is None else [METHODS[name]]:
        typer.echo(f"{method.name}: {method.about}")
        typer.echo(f"    {_needs(method)}")
        for parameter in method.parameters:
            typer.echo(f"    --parameter {parameter.line}")


def _needs(method: Method) -> str:
    needs = {
        "an operator with an SVD": method.needs_svd,
        "a prior": method.needs_prior,
        "a conditional network": method.needs_condition,
        "gradients of the network": method.needs_gradient,
    }
    drawn = "Draws posterior samples" if method.stochastic else "Has one answer"
    takes = f"; takes {method.operators}" if method.operators else ""
    return f"{drawn}; needs {', '.join(need for need, needed in needs.items() if needed)}{takes}."
