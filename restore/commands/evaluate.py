"""`restore evaluate`: compare methods on a folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, get_type_hints

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
from restore.jobs.selection import check_folder
from restore.tasks import TASKS
from restore.tasks.option import OptionField, evaluated_options_of, parse_added_noise

Source = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="A folder of sharp pictures, which are degraded first."),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        help=f"Task: {', '.join(TASKS)}.",
        autocompletion=words(TASKS),
    ),
]
NoiseOption = Annotated[
    str | None,
    typer.Option(
        help="Standard deviation of added noise, for pixels in [0, 1]; for "
        + ", ".join(
            name for name, task in TASKS.items() if task.takes_signal_noise and not task.takes_raws
        )
        + " also A:B, the variance A x + B of a pixel x. Default: "
        + "".join(
            f"{task.added_noise:.2g} for {name}, "
            for name, task in TASKS.items()
            if task.added_noise
        )
        + "else 0."
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
    typer.Option(
        help="Methods joined by commas, such as bicubic,ddrm; all is every one that suits. "
        "Default: the classical ones, ddrm, diffpir, sr3 and one-step."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(help="Network calls of methods of several steps. Default: the method's."),
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
GeneratedOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Instead of DIR and --task: a folder of generated pictures, whose distance to "
        "--reference is measured.",
    ),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder of pictures that --generated should be like."),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        metavar="alexnet|FILE",
        help="Network for the distance of --generated: alexnet, or a TorchScript file, such as "
        "that of Inception. Default: alexnet.",
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show the table and errors only, no progress.")
]


def evaluate(
    source: Source = None,
    *,
    task: TaskOption = None,
    noise: NoiseOption = None,
    size: SizeOption = 0,
    count: CountOption = None,
    methods: MethodsOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    report: ReportOption = None,
    json_file: JsonOption = None,
    markdown: MarkdownOption = None,
    generated: GeneratedOption = None,
    reference: ReferenceOption = None,
    features: FeaturesOption = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
    **of_task: Any,
) -> None:
    """Degrade the pictures of a folder, restore them by every method and score them."""
    if generated is not None or reference is not None or features is not None:
        unused = {
            "DIR": source,
            "`task`": task,
            "`noise`": noise,
            "`methods`": methods,
            "`steps`": steps,
            "`label`": label,
            **{f"`{name}`": value for name, value in of_task.items()},
        }
        _compare_sets(
            generated,
            reference,
            features,
            size,
            count,
            device,
            [name for name, value in unused.items() if value not in (None, False)],
            (report, json_file, markdown, overwrite),
            quiet,
        )
        return

    if source is None:
        raise BadArgument("Missing argument DIR: a folder of sharp pictures")
    if task is None:
        raise BadArgument("Missing option `task`: one of " + ", ".join(TASKS))
    check_folder(source)

    from restore.evaluate import Outputs, Settings, command
    from restore.evaluate.run import uses_model
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    wanted = () if methods is None else tuple(name.strip() for name in methods.split(","))
    settings = Settings(
        task,
        noise=None if noise is None else parse_added_noise(noise),
        size=size,
        count=count,
        methods=wanted,
        steps=steps,
        seed=seed,
        model=model,
        device=device,
        label=label,
        **{name: _read(task, name, value) for name, value in of_task.items()},
    )
    if uses_model(settings):
        ensure(model, yes=yes)

    outputs = Outputs(report, json_file, markdown, overwrite)
    command(source, settings, outputs, quiet=quiet, wording=in_options)


def _compare_sets(
    generated: Path | None,
    reference: Path | None,
    features: str | None,
    size: int,
    count: int | None,
    device: str,
    unused: list[str],
    outputs: tuple[Path | None, Path | None, Path | None, bool],
    quiet: bool,
) -> None:
    """Measure the distance of two folders, if the options say two and nothing else."""
    if generated is None or reference is None:
        missing = "generated" if generated is None else "reference"
        raise BadArgument(f"Missing option `{missing}`: distances are those of two folders")
    if unused:
        raise BadArgument(f"{', '.join(unused)}: not with `generated` and `reference`")

    from restore.evaluate import Outputs
    from restore.evaluate.sets import Sets, command
    from restore.metrics.features import ALEXNET

    sets = Sets(generated, reference, features or ALEXNET, size, count, device)
    command(sets, Outputs(*outputs), quiet=quiet, wording=in_options)


def _read(task: str, name: str, value: str | float | None) -> Any:
    """Read the value of a task's option; its picture files are read for each picture."""
    record = TASKS.get(task)
    if record is None or name == record.companion or not isinstance(value, str):
        return value

    field = evaluated_options_of(record).get(name)
    parse = None if field is None else field.option.parse
    return value if parse is None else parse(value)


def _parameter(name: str, fields: list[OptionField]) -> inspect.Parameter:
    """Return an option of one or several tasks as a parameter of the command."""
    kind = fields[0].type if fields[0].type in (int, float, bool) else str
    offered = tuple(dict.fromkeys(word for field in fields for word in field.option.words))
    described = typer.Option(
        help=" ".join(field.option.evaluated or "" for field in fields),
        autocompletion=words(offered) if offered else None,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind | None, described],
        default=None,
    )


def _with_options_of_tasks() -> inspect.Signature:
    """Return the signature of `evaluate` with the options of the tasks in place of ``of_task``."""
    found: dict[str, list[OptionField]] = {}
    for task in TASKS.values():
        for name, field in evaluated_options_of(task).items():
            found.setdefault(name, []).append(field)

    hints = get_type_hints(evaluate, include_extras=True)
    source, task_option, *others, _ = inspect.signature(evaluate).parameters.values()
    own = [p.replace(annotation=hints[p.name]) for p in (source, task_option, *others)]
    of_tasks = [_parameter(name, fields) for name, fields in found.items()]

    return inspect.Signature([*own[:2], *of_tasks, *own[2:]])


evaluate.__signature__ = _with_options_of_tasks()  # type: ignore[attr-defined]
evaluate.__annotations__ = {
    p.name: p.annotation
    for p in evaluate.__signature__.parameters.values()  # type: ignore[attr-defined]
}
