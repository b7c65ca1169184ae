"""`restore train`: train a model on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.options import DebugOption, DeviceOption
from restore.commands.wording import in_options
from restore.errors import BadArgument
from restore.messages import say


def train(
    out: Annotated[
        Path, typer.Option(help="Folder of the run: recipe, log, samples, checkpoints, model.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of training photographs; of a classifier, with a folder for each class."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe as a TOML file, whose missing keys have defaults, or the name of a "
            "paper's: ddpm, improved-ddpm, npr-ddpm, ncsn, edm, sr3, i2sb or adm-classifier."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the run in minutes.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Length of the run in steps, instead of minutes.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in --out exactly.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Initial weights: default, or a .safetensors file.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Folder of validation pictures, for the sample sheet.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that caches decoded pictures.")] = None,
    average: Annotated[
        float | None,
        typer.Option(
            help="Train nothing, and write the average of this decay in the checkpoint of --out, "
            "as model-average-DECAY.safetensors."
        ),
    ] = None,
    device: DeviceOption = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show notices and errors only, no progress.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Train a model on your own photographs, prior and conditional model in one network.

    Ctrl-C writes a checkpoint before it ends.
    For several GPUs: torchrun --nproc-per-node N -m cli train …
    """
    if average is not None:
        used = (data, recipe, minutes, steps, init, validation, cache)
        if resume or any(option is not None for option in used):
            raise BadArgument("`average`: trains nothing, and needs `out` alone")
        _write_average(out, average, quiet=quiet)
        return

    from restore.runtime.devices import keep_freed_memory
    from restore.training.lines import TrainingLines
    from restore.training.trainer import Options, train

    keep_freed_memory()
    options = Options(out, data, recipe, minutes, steps, resume, init, device, validation, cache)
    lines = TrainingLines(say, quiet=quiet)
    summary = train(
        options, progress=lines, notice=lambda text: say(f"restore: {in_options(text)}")
    )
    quality = "".join(
        f", {name} {value:.0f} %" if name.startswith("accuracy") else f", {name} {value:.2f} dB"
        for name, value in summary.quality.items()
    )
    if not quiet and summary.quality:  # the first of several processes
        minutes = summary.seconds / 60
        say(
            f"{summary.model}: {summary.steps} steps in {minutes:.1f} min, loss "
            f"{summary.loss:.5f}{quality}"
        )


def _write_average(out: Path, decay: float, *, quiet: bool) -> None:
    from restore.training.checkpoint import export_average

    model = export_average(out, decay)
    if not quiet:
        say(f"{model}: the average of decay {decay:g}")
