"""`restore sample`: draw samples from the prior."""

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
    OverwriteOption,
    SeedOption,
    YesOption,
)
from restore.tasks.option import parse_size

Target = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="A picture of all samples in a grid; with --separate, a folder."
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Size of a sample in pixels, WIDTHxHEIGHT. Default: the model's own, or 128x128."
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        help="Sampler, such as ddim or heun; an unknown name lists all. Default: dpmpp-2m, or "
        "ddim for a distilled model."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        help="Number of noise levels; some samplers call the network several times at each. "
        "Default: 20, or those of a distilled model."
    ),
]
LevelsOption = Annotated[
    str | None,
    typer.Option(
        help="Noise schedule: uniform, quadratic, karras or log-snr. Default: the sampler's."
    ),
]
TrajectoryOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write the trajectories of the first four samples, as a picture.",
    ),
]


def sample(
    target: Target,
    count: Annotated[int, typer.Option(help="Number of samples.")] = 9,
    size: SizeOption = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    levels: LevelsOption = None,
    seed: SeedOption = 0,
    separate: Annotated[
        bool, typer.Option("--separate", help="Write one file per sample, to the folder OUT.")
    ] = False,
    trajectory: TrajectoryOption = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Draw samples from the unconditional prior, by any sampler."""
    from restore.jobs.samples import Request, sample_to

    shape = None if size is None else parse_size(size)
    sides = {} if shape is None else {"width": shape[0], "height": shape[1]}
    wanted = {"count": count, "sampler": sampler, "steps": steps, "levels": levels, "seed": seed}
    ensure(model, yes=yes)
    sample_to(
        Request(
            target,
            separate=separate,
            trajectory=trajectory,
            overwrite=overwrite,
            model=model,
            device=device,
            label=label,
        ),
        quiet=quiet,
        **sides,
        **wanted,
    )
