"""`restore likelihood`: measure bits per dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.downloads import ensure
from restore.commands.options import (
    ClassOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    SeedOption,
    YesOption,
)
from restore.commands.wording import in_options
from restore.jobs.selection import check_input


def likelihood(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures to measure.")],
    size: Annotated[
        int,
        typer.Option(help="Side of the centre crop of each picture, in pixels."),
    ] = 64,
    probes: Annotated[
        int,
        typer.Option(
            help="Number of random probes of Hutchinson's estimate; more are more exact and slower."
        ),
    ] = 1,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory to use on the device, such as 4GB. Default: most of what is free."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per picture on stdout.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Measure how likely pictures are under the prior, in bits per dimension."""
    if len(pictures) == 1:
        check_input(pictures[0])

    from restore.jobs.likelihood import Estimator, tell_all
    from restore.photo.apart import decoding_apart

    ensure(model, yes=yes)
    estimator = Estimator(
        model, device, size=size, probes=probes, seed=seed, memory=memory, label=label
    )
    with decoding_apart(len(pictures) > 1):
        tell_all(estimator, pictures, as_json=as_json, wording=in_options)
