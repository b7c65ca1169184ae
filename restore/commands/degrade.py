"""`restore degrade`: make test inputs."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.commands.options import DebugOption, Input, Output, OverwriteOption
from restore.commands.wording import in_options
from restore.jobs.selection import check_input


def degrade(
    source: Input,
    target: Output = None,
    operator: Annotated[
        str,
        typer.Option(
            help="Degradation, such as blur:gaussian:2+down:bicubic:4; see restore operators."
        ),
    ] = ...,  # type: ignore[assignment]
    noise: Annotated[
        str,
        typer.Option(
            help="Standard deviation of added noise, for pixels in [0, 1]; or A:B, photons and "
            "electronics whose variance is A x + B for a pixel x."
        ),
    ] = "0",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Random seed for the noise.")] = 0,
    overwrite: OverwriteOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show errors only, no summary.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per picture on stdout.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Make test inputs: a degraded picture, and the measurement as numbers (.npz) beside it."""
    check_input(source)

    from restore.jobs.degrading import degrade_all
    from restore.jobs.plan import Wanted, plan_run
    from restore.tasks import Solving
    from restore.tasks.option import parse_added_noise

    added = parse_added_noise(noise)
    Solving(operator, noise=added).check()
    wanted = Wanted(overwrite=overwrite, writes_measurements=True)
    degrade_all(
        lambda: plan_run(source, target, "degrade", wanted),
        operator,
        added,
        seed,
        overwrite=overwrite,
        quiet=quiet,
        as_json=as_json,
        wording=in_options,
    )
