"""`restore info`: describe the installation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from restore.commands.options import DebugOption, DeviceOption, ModelOption
from restore.errors import Unavailable


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
    typer.echo(json.dumps(gathered, ensure_ascii=False, indent=1) if as_json else text(gathered))
    if found := problems(gathered):
        raise Unavailable("; ".join(found))
