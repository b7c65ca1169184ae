"""`restore likelihood`: bits per dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.options import (
    ClassOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    SeedOption,
    YesOption,
)
from restore.commands.wording import in_options


def likelihood(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures.")],
    size: Annotated[
        int,
        typer.Option(help="Side in pixels of the square that is taken from the middle of each."),
    ] = 64,
    probes: Annotated[
        int, typer.Option(help="Of Hutchinson's estimate: more are more exact, and slower.")
    ] = 1,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="To use on the device in all, as in 4GB. Default: most of what is free."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each picture on stdout.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """How likely pictures are under the prior: bits for each number of a pixel."""
    from restore.jobs.likelihood import Estimator, tell_all

    estimator = Estimator(
        model, device, size=size, probes=probes, seed=seed, memory=memory, label=label
    )
    tell_all(estimator, pictures, as_json=as_json, wording=in_options)
