"""`restore export`: the one-step methods as ONNX files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.downloads import ensure
from restore.commands.options import (
    ClassOption,
    DebugOption,
    ModelOption,
    OverwriteOption,
    YesOption,
    words,
)
from restore.errors import BadArgument
from restore.export import FORMATS, TASKS
from restore.messages import put, say


def export(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUT.onnx]",
            help="Output file; its card goes to OUT.md. Default: restore-TASK.onnx in this folder.",
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="Task: sr (the predictor) or denoise (the prior).", autocompletion=words(TASKS)
        ),
    ] = ...,  # type: ignore[assignment]  # Typer's word for an option that must be given
    scale: Annotated[
        float | None,
        typer.Option(help="Scale factor of sr, a whole number from 2 to 8. Default: 4."),
    ] = None,
    to: Annotated[
        str, typer.Option(help="Format of the file: onnx.", autocompletion=words(FORMATS))
    ] = "onnx",
    noise: Annotated[
        float | None,
        typer.Option(
            help="Noise level of denoise to build in, for pixels in [0, 1], for programs that give "
            "a model the picture alone. Default: it is an input."
        ),
    ] = None,
    half: Annotated[
        bool,
        typer.Option("--half", help="Store the weights in float16, in a file of half the size."),
    ] = False,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    overwrite: OverwriteOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the name of the file alone.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Export the one-step method of a task as ONNX, for darktable, chaiNNer and others."""
    if to not in FORMATS:
        raise BadArgument(f"`to`={to}: unknown format; use {', '.join(FORMATS)}")

    from restore.export.order import Order
    from restore.export.run import check, export_to

    order = Order(task, model, scale, noise, label, half)
    order.check()
    path = Path(f"{order.name}.onnx") if target is None else target
    check(order, path, overwrite=overwrite)
    ensure(model, yes=yes)
    if not quiet:
        say("restore: converting the network takes about half a minute")

    done = export_to(path, order, overwrite=overwrite)
    put(str(done.path))
    if not quiet:
        say(
            f"restore: {done.bytes / 1e6:.1f} MB, card in {done.card}; ONNX Runtime and PyTorch "
            f"differ by at most {done.difference:.1e} ({done.sizes} pixels)"
        )
