"""`restore operators`: list degradations."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.errors import BadArgument


def list_operators(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORD]", help="Show only words that begin with this, with their units."
        ),
    ] = None,
) -> None:
    """List the degradations for --operator and --kernel."""
    from operators.vocabulary import WORDS

    chosen = [w for name, w in WORDS.items() if word is None or name.startswith(word)]
    if not chosen:
        raise BadArgument(f"{word}: no operator begins so; there are {', '.join(WORDS)}")

    for one in chosen:
        typer.echo(one.line if word is None else one.describe())

    if word is None:
        typer.echo(
            "Joined by +, applied from left to right: blur:gaussian:2+down:bicubic:4. Details: "
            "restore operators WORD"
        )
