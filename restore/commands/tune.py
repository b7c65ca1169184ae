"""`restore tune`: noise levels for few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.options import (
    RESAMPLERS,
    ClassOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    SeedOption,
    YesOption,
    words,
)
from restore.commands.wording import say


def tune(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of sharp pictures that the model was not trained on."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE.json", help="For --levels; a search that was ended goes on."),
    ],
    steps: Annotated[int, typer.Option(help="How many noise levels.")] = 10,
    scale: Annotated[float, typer.Option(help="Of the super-resolution that they are for.")] = 4,
    kernel: Annotated[
        str,
        typer.Option(help="Likewise: bicubic, area or lanczos.", autocompletion=words(RESAMPLERS)),
    ] = "bicubic",
    noise: Annotated[
        float, typer.Option(help="Likewise: standard deviation for pixels in [0, 1].")
    ] = 0.0,
    score: Annotated[
        str,
        typer.Option(
            help="What is to be best: lpips or psnr.", autocompletion=words(("lpips", "psnr"))
        ),
    ] = "lpips",
    size: Annotated[
        int, typer.Option(help="Side of the middle square that is taken of each picture.")
    ] = 96,
    count: Annotated[int, typer.Option(help="How many pictures, the first in name order.")] = 8,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever --out holds.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The result only.")] = False,
    debug: DebugOption = False,
) -> None:
    """Find the few noise levels that serve SR3 best, on held-out pictures."""
    from restore.evaluate.tune import Request, told, tune
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    request = Request(
        source, steps, scale, kernel, noise, score, size, count, seed, model, device, label
    )
    best = tune(request, out, overwrite=overwrite, tell=(lambda text: None) if quiet else say)
    typer.echo(f"{out}: {told(best)}")
