"""`restore info`: what would be used here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from restore.commands.options import DebugOption, DeviceOption, ModelOption
from restore.errors import Unavailable


def info(
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show what would be used: device, model, methods, versions; and what is missing."""
    from restore.commands.installation import gather, problems, text

    gathered = gather(model, device)
    typer.echo(json.dumps(gathered, ensure_ascii=False, indent=1) if as_json else text(gathered))
    if found := problems(gathered):
        raise Unavailable("; ".join(found))
