"""`restore sample`: pictures of the prior alone."""

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
from restore.tasks.option import parse_size


def sample(
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A picture of them all; with --separate a folder.")
    ],
    count: Annotated[int, typer.Option(help="How many.")] = 9,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of each, in pixels. Default: the model's own, or 128x128."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="As in ddim or heun; a wrong name lists all. Default: dpmpp-2m; of a distilled "
            "model ddim."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Noise levels; some samplers take several calls at each. Default: 20; of a "
            "distilled model its own."
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Their grid: uniform, quadratic, karras or log-snr. Default: the sampler's."
        ),
    ] = None,
    seed: SeedOption = 0,
    separate: Annotated[
        bool, typer.Option("--separate", help="A file for each, in the folder OUT.")
    ] = False,
    trajectory: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a picture of how the first four came about."),
    ] = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Draw pictures from the prior alone, by any sampler."""
    from restore.jobs.samples import Request, sample_to

    shape = None if size is None else parse_size(size)
    sides = {} if shape is None else {"width": shape[0], "height": shape[1]}
    wanted = {"count": count, "sampler": sampler, "steps": steps, "levels": levels, "seed": seed}
    sample_to(
        Request(target, separate, trajectory, overwrite, model, device, label),
        quiet=quiet,
        **sides,
        **wanted,
    )
