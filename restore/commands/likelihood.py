"""`restore likelihood`: measure bits per dimension."""

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
    words,
)
from restore.commands.wording import in_options
from restore.errors import BadArgument
from restore.jobs.selection import check_input


def likelihood(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures to measure.")],
    size: Annotated[
        int,
        typer.Option(help="Side of the centre crop of each picture, in pixels."),
    ] = 64,
    probes: Annotated[
        int | None,
        typer.Option(
            help="Number of random probes of Hutchinson's estimate; more are more exact and "
            "slower. Default: 1."
        ),
    ] = None,
    bound: Annotated[
        bool,
        typer.Option(
            "--bound", help="Measure the variational bound of the discrete chain, term by term."
        ),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="With --bound, the length of the chain. Default: the model's own."),
    ] = None,
    variance: Annotated[
        str | None,
        typer.Option(
            help="With --bound, the variance of a step: forward, posterior or learned. Default: "
            "learned if the model has learned it, else forward.",
            autocompletion=words(("forward", "posterior", "learned")),
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="OUT.csv", help="With --bound, write every term."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="With --bound, draw the terms by step."),
    ] = None,
    progressive: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png",
            help="Draw the rate-distortion curve of progressive coding, and the picture at 8 "
            "rates; implies --bound.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory to use on the device, such as 4GB. Default: most of what is free."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per picture on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Measure how likely pictures are under the prior, in bits per dimension."""
    if len(pictures) == 1:
        check_input(pictures[0])

    if bound or progressive is not None:
        if probes is not None:
            raise BadArgument(f"`probes`={probes}: --bound has no probes")
        if progressive is not None and len(pictures) > 1:
            raise BadArgument(f"`progressive`={progressive}: one picture only, not {len(pictures)}")

        from restore.jobs.bound import BoundEstimator, BoundOutputs, tell_bounds
        from restore.photo.apart import decoding_apart

        outputs = BoundOutputs(table, plot, progressive, overwrite)
        outputs.check(pictures)
        ensure(model, yes=yes)
        bounds = BoundEstimator(
            model,
            device,
            size=size,
            steps=steps,
            variance=variance,
            progressive=progressive is not None,
            seed=seed,
            memory=memory,
            label=label,
        )
        with decoding_apart(len(pictures) > 1):
            tell_bounds(bounds, pictures, outputs, as_json=as_json, quiet=quiet, wording=in_options)
        return

    of_bound = {"steps": steps, "variance": variance, "table": table, "plot": plot}
    for name, value in of_bound.items():
        if value is not None:
            raise BadArgument(f"`{name}`={value}: only with --bound")

    from restore.jobs.likelihood import Estimator, tell_all
    from restore.photo.apart import decoding_apart

    ensure(model, yes=yes)
    estimator = Estimator(
        model,
        device,
        size=size,
        probes=1 if probes is None else probes,
        seed=seed,
        memory=memory,
        label=label,
    )
    with decoding_apart(len(pictures) > 1):
        tell_all(estimator, pictures, as_json=as_json, wording=in_options)
