"""`restore evaluate`: compare methods on a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.downloads import ensure
from restore.commands.options import (
    BLURS,
    BOUNDARIES,
    RESAMPLERS,
    ClassOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    OverwriteOption,
    SeedOption,
    YesOption,
    words,
)
from restore.commands.wording import in_options
from restore.jobs.selection import check_folder
from restore.tasks import TASKS

Source = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A folder of sharp pictures, which are degraded first."),
]
TaskOption = Annotated[
    str,
    typer.Option(
        help="Task: sr, inpaint, deblur, denoise, colorize or solve.",
        autocompletion=words(TASKS),
    ),
]
ScaleOption = Annotated[
    float | None, typer.Option(help="Scale factor for sr, above 1 and up to 16. Default: 4.")
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        help="Kernel for sr (bicubic, area, lanczos) or deblur (gaussian:SIGMA, …). "
        "Default: bicubic, gaussian:2.",
        autocompletion=words((*RESAMPLERS, *BLURS)),
    ),
]
BoundaryOption = Annotated[
    str | None,
    typer.Option(
        help="Boundary for deblur: what lies beyond the border. Default: unknown.",
        autocompletion=words(BOUNDARIES),
    ),
]
MaskOption = Annotated[
    str | None,
    typer.Option(
        help="Mask for inpaint: a picture (white = fill), a folder of them, random:0.5, "
        "strokes or box:64."
    ),
]
OperatorOption = Annotated[
    str | None,
    typer.Option(help="Degradation for solve, such as blur:gaussian:2+down:bicubic:4."),
]
NoiseOption = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of added noise, for pixels in [0, 1]. Default: 0.01 for "
        "deblur, 0.098 for denoise, else 0."
    ),
]
SizeOption = Annotated[
    int, typer.Option(help="Side of the centre crop, in pixels; 0 takes whole pictures.")
]
CountOption = Annotated[
    int | None, typer.Option(help="Number of pictures, the first by name. Default: all.")
]
MethodsOption = Annotated[
    str | None,
    typer.Option(help="Methods joined by commas, such as bicubic,ddrm. Default: all that apply."),
]
StepsOption = Annotated[
    int | None,
    typer.Option(help="Network calls of ddrm, diffpir or sr3. Default: the method's."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="OUT.html", help="Write an HTML report with the table and pictures."),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="OUT.json",
        help="Write settings, versions and the scores of every picture.",
    ),
]
MarkdownOption = Annotated[
    Path | None, typer.Option(metavar="OUT.md", help="Write the table that is shown on stdout.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show the table and errors only, no progress.")
]


def evaluate(
    source: Source,
    task: TaskOption = ...,  # type: ignore[assignment]
    scale: ScaleOption = None,
    kernel: KernelOption = None,
    boundary: BoundaryOption = None,
    mask: MaskOption = None,
    operator: OperatorOption = None,
    noise: NoiseOption = None,
    size: SizeOption = 0,
    count: CountOption = None,
    methods: MethodsOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    report: ReportOption = None,
    json_file: JsonOption = None,
    markdown: MarkdownOption = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Degrade the pictures of a folder, restore them by every method and score them."""
    check_folder(source)

    from restore.evaluate import Outputs, Settings, command
    from restore.evaluate.run import uses_model
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    wanted = () if methods is None else tuple(name.strip() for name in methods.split(","))
    settings = Settings(
        task,
        scale=scale,
        kernel=kernel,
        boundary=boundary,
        mask=mask,
        operator=operator,
        noise=noise,
        size=size,
        count=count,
        methods=wanted,
        steps=steps,
        seed=seed,
        model=model,
        device=device,
        label=label,
    )
    if uses_model(settings):
        ensure(model, yes=yes)

    outputs = Outputs(report, json_file, markdown, overwrite)
    command(source, settings, outputs, quiet=quiet, wording=in_options)
