"""`restore info`: describe the installation."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.commands.options import DebugOption, DeviceOption, ModelOption
from restore.errors import Unavailable
from restore.messages import put_json


def info(
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Show the device, model, methods and versions in use, and what is missing."""
    from restore.commands.installation import gather, problems, text

    gathered = gather(model, device)
    if as_json:
        put_json(gathered, indent=1)
    else:
        typer.echo(text(gathered))
    if found := problems(gathered):
        raise Unavailable("; ".join(found))
