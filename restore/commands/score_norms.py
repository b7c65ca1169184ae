"""`restore score-norms`: estimate the norm of a model's score."""

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
from restore.jobs.selection import check_folder
from restore.messages import say


def score_norms(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photographs.")],
    count: Annotated[int, typer.Option(help="Number of random crops.")] = 64,
    size: Annotated[
        int | None,
        typer.Option(help="Side of a crop in pixels. Default: the model's own size, or 96."),
    ] = None,
    levels: Annotated[
        int,
        typer.Option(
            "--noise-levels", help="Number of noise levels; the network sees every crop at each."
        ),
    ] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.norms.json",
            help="Output file. Default: in the cache, where restore sample finds it.",
        ),
    ] = None,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite FILE.norms.json.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Estimate the mean squared norm of a model's score, for analytic-ddpm and analytic-ddim."""
    check_folder(source)

    from restore.jobs.score_norms import Estimate, estimate_to

    wanted = Estimate(source, model, device, label, count, size, levels, seed)
    ensure(model, yes=yes)
    path = estimate_to(wanted, out, overwrite=overwrite, quiet=quiet)
    if not quiet:
        say(f"restore: score norms of {model} at {path}")
