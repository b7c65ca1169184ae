"""`restore tune`: search noise levels for few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.downloads import ensure
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
from restore.jobs.selection import check_folder
from restore.messages import put, say

Source = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="A folder of sharp pictures that the model was not trained on."
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        metavar="FILE.json",
        help="Output file, for --levels; an interrupted search resumes from it.",
    ),
]
KernelOption = Annotated[
    str,
    typer.Option(
        help="Downsampling kernel: bicubic, area or lanczos.", autocompletion=words(RESAMPLERS)
    ),
]
NoiseOption = Annotated[
    float, typer.Option(help="Standard deviation of added noise, for pixels in [0, 1].")
]
ScoreOption = Annotated[
    str,
    typer.Option(
        help="Metric to optimise: lpips or psnr.", autocompletion=words(("lpips", "psnr"))
    ),
]


def tune(
    source: Source,
    out: OutOption,
    steps: Annotated[int, typer.Option(help="Number of noise levels.")] = 10,
    scale: Annotated[
        float, typer.Option(help="Scale factor of the super-resolution to tune for.")
    ] = 4,
    kernel: KernelOption = "bicubic",
    noise: NoiseOption = 0.0,
    score: ScoreOption = "lpips",
    size: Annotated[
        int, typer.Option(help="Side of the centre crop of each picture, in pixels.")
    ] = 96,
    count: Annotated[int, typer.Option(help="Number of pictures, the first by name.")] = 8,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start a new search, whatever --out holds.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the result only.")] = False,
    debug: DebugOption = False,
) -> None:
    """Search the noise levels that suit SR3 best with few steps, on held-out pictures."""
    check_folder(source)

    from restore.evaluate.tune import Request, told, tune
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    request = Request(
        source,
        steps=steps,
        scale=scale,
        kernel=kernel,
        noise=noise,
        score=score,
        size=size,
        count=count,
        seed=seed,
        model=model,
        device=device,
        label=label,
    )
    ensure(model, yes=yes)
    best = tune(request, out, overwrite=overwrite, tell=(lambda text: None) if quiet else say)
    put(f"{out}: {told(best)}")
