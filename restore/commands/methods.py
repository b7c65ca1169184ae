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
    """Return one line: whether it draws samples, what it needs, and what it takes."""
    network = "a conditional network"
    if method.predictor_suffices:
        network = f"a predictor or {network}"
    if method.unconditional_kinds:
        network += f" (not for {', '.join(sorted(method.unconditional_kinds))})"
    needs = {
        "an operator with an SVD": method.needs_svd,
        "a prior": method.needs_prior,
        network: method.needs_condition and not method.bridges,
        "a bridge (restore train --recipe i2sb)": method.bridges,
        "a model of latents, such as Stable Diffusion": method.latents,
        "gradients of the network": method.needs_gradient,
    }

    drawn = "Draws posterior samples" if method.stochastic else "Has one answer"
    needed = ", ".join(need for need, is_needed in needs.items() if is_needed)
    takes = f"; takes {method.operators}" if method.operators else ""
    noisy = f", with noise {method.noisy_operators}" if method.noisy_operators else ""
    return f"{drawn}; needs {needed}{takes}{noisy}."
