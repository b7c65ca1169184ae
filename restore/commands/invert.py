"""`restore invert`: the noise that DDIM turns into a picture."""

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
    YesOption,
)
from restore.jobs.selection import check_input
from restore.tasks.option import parse_size


def invert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture.")],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[NOISE.safetensors]",
            help="Output file, for restore sample --from. Default: IN-noise.safetensors.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Take the centre of IN, WIDTHxHEIGHT in pixels. Default: all of it."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Number of noise levels. Default: 20, or those of a distilled model."),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="Noise schedule: uniform, quadratic, karras or log-snr (default)."),
    ] = None,
    iterations: Annotated[
        int,
        typer.Option(help="Network calls at each noise level; more come nearer to the picture."),
    ] = 3,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Invert DDIM: find the noise of a picture, and print how well it gives the picture back."""
    check_input(source)

    from restore.jobs.latent import invert_to
    from restore.jobs.place import Place

    out = source.with_name(f"{source.stem}-noise.safetensors") if target is None else target
    place = Place(out, False, overwrite, model, device, label)
    ensure(model, yes=yes)
    invert_to(
        place,
        source,
        steps=steps,
        levels=levels,
        iterations=iterations,
        size=None if size is None else parse_size(size),
        quiet=quiet,
    )
