"""`restore evaluate`: how well every method does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.options import (
    BLURS,
    BOUNDARIES,
    RESAMPLERS,
    ClassOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    SeedOption,
    YesOption,
    words,
)
from restore.commands.wording import in_options
from restore.tasks import TASKS


def evaluate(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of sharp pictures; they are degraded first."),
    ],
    task: Annotated[
        str,
        typer.Option(
            help="sr, inpaint, deblur, denoise, colorize or solve.", autocompletion=words(TASKS)
        ),
    ] = ...,  # type: ignore[assignment]
    scale: Annotated[
        float | None, typer.Option(help="Of sr: above 1 and up to 16. Default: 4.")
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            help="Of sr: bicubic, area or lanczos. Of deblur: gaussian:SIGMA, "
            "motion:LENGTH:ANGLE, … "
            "Default: bicubic, gaussian:2.",
            autocompletion=words((*RESAMPLERS, *BLURS)),
        ),
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(
            help="Of deblur: what lies beyond the border. Default: unknown, as of a photograph.",
            autocompletion=words(BOUNDARIES),
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Of inpaint: a picture, white = fill, or a folder of them; or random:0.5, "
            "strokes, box:64."
        ),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Of solve: as in blur:gaussian:2+down:bicubic:4.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of added noise, for pixels in [0, 1]. Default: deblur 0.01, "
            "denoise 0.098, else 0."
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(help="Side of the middle square that is taken; 0: whole pictures.")
    ] = 0,
    count: Annotated[
        int | None, typer.Option(help="How many pictures, the first in name order. Default: all.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Joined by commas, as in bicubic,ddrm. Default: all that suit."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Network calls of ddrm, diffpir, sr3. Default: the method's.")
    ] = None,
    seed: SeedOption = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="A page with the table and pictures.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="OUT.json", help="Settings, versions, every picture's numbers."
        ),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="OUT.md", help="What is shown on stdout.")
    ] = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; the table and errors only.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Measure: degrade the pictures of a folder, restore them by every method, compare with the
    truth.
    """
    from restore.evaluate import Outputs, Settings, command
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    wanted = () if methods is None else tuple(name.strip() for name in methods.split(","))
    settings = Settings(
        task,
        scale,
        kernel,
        boundary,
        mask,
        operator,
        noise,
        size,
        count,
        wanted,
        steps,
        seed,
        model,
        device,
        label,
    )
    command(
        source,
        settings,
        Outputs(report, json_file, markdown, overwrite),
        quiet=quiet,
        wording=in_options,
    )
