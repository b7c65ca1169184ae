"""`restore sr` and the other tasks: one sub-command for each record of a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from restore.commands.downloads import ensure
from restore.commands.options import KINDS, Common, Paths, kind_of, words
from restore.commands.paths import STDIN, read_paths
from restore.commands.wording import in_options
from restore.errors import BadArgument, FileAccess
from restore.files import looked_up
from restore.film.containers import is_clip
from restore.jobs.selection import check_input, is_pattern
from restore.tasks import Task
from restore.tasks.option import OptionField, options_of

if TYPE_CHECKING:
    from restore.jobs.inputs import Source
    from restore.jobs.ray_engine import Cluster
    from restore.jobs.request import Request
    from restore.methods.options import Options


def command_of(task: type[Task]) -> Callable[..., None]:
    """Return the sub-command of a task, with its own options and those of all tasks."""
    own = options_of(task)
    common_hints = get_type_hints(Common, include_extras=True)

    def command(**values: Any) -> None:
        paths = values.pop("paths")
        common = Common(**{f.name: values.pop(f.name) for f in fields(Common)})
        source, target = read_paths(paths, common.output, overwrite=common.overwrite)

        stated = task(**{name: read_option(own[name], value) for name, value in values.items()})
        for one in [source] if isinstance(source, Path) else source:
            if not isinstance(source, Path) and _is_clip(one):
                raise BadArgument(f"{one}: a clip is restored by itself; give it alone")
            if missing := stated.missing_for(one):
                raise BadArgument(missing)
            _check_inputs(one, stated)

        request = _request(stated, source, target, common)
        if not common.dry_run:
            ensure(common.model, yes=common.yes)
            if common.clip is not None:
                ensure(common.clip, yes=common.yes, option="clip")
        _run(request)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("paths", keyword, annotation=Paths),
        *(_parameter(option) for option in own.values()),
        *(
            inspect.Parameter(f.name, keyword, annotation=common_hints[f.name], default=f.default)
            for f in fields(Common)
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    KINDS[task.name] = {p.name: kind_of(p.annotation) for p in parameters}

    return command


def _check_inputs(source: Path, task: Task) -> None:
    """Refuse missing files before PyTorch is imported, which takes seconds.

    Raises:
        FileAccess: the input, or the file or folder of its companions, is not there.
    """
    if source != STDIN:
        check_input(source)
    companion = None if task.companion is None else getattr(task, task.companion)
    if isinstance(companion, Path):
        with looked_up(companion):
            if not companion.exists():
                raise FileAccess(f"`{task.companion}`={companion}: no such file or folder")


def _parameter(field: OptionField) -> inspect.Parameter:
    """Return an option as a parameter of the command, as text if the task parses it."""
    option = field.option
    kind: Any = field.type if option.parse is None else Path if option.kind is Path else str
    if not field.required and field.default in (None, MISSING):
        kind = kind | None

    described = typer.Option(
        help=option.help,
        autocompletion=words(option.words) if option.words else None,
        metavar=option.metavar,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, described],
        default=shown_default(field),
    )


def shown_default(field: OptionField) -> Any:
    """Return the default of an option as the command shows it; ``...`` if it is required."""
    if field.required:
        return ...
    if field.default is MISSING:  # to be found beside the input
        return None
    if field.option.parse is None or field.default is None:
        return field.default

    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def read_option(field: OptionField, value: Any) -> Any:
    """Return the value of an option, parsed from the text of the command."""
    return value if value is None or field.option.parse is None else field.option.parse(value)


def _request(task: Task, source: Source, target: Path | None, common: Common) -> Request:
    """Return the request for the options.

    Raises:
        BadArgument: invalid options, or options that contradict each other.
    """
    from restore.jobs.output import OutputOptions
    from restore.jobs.request import Request
    from restore.jobs.selection import Shard

    return Request(
        task=task,
        source=source,
        target=target,
        options=options_from(common),
        output=OutputOptions(common.format, common.quality, common.depth),
        model=common.model,
        device=common.device,
        tile=common.tile,
        memory=common.memory,
        overwrite=common.overwrite,
        resume=common.resume,
        pages=common.pages,
        allow_truncated=common.allow_truncated,
        files_from=common.files_from,
        shard=None if common.shard is None else Shard.read(common.shard),
        dry_run=common.dry_run,
        watch=common.watch,
        compare=common.compare,
        report=common.report,
        cluster=_cluster(common),
        quiet=common.quiet,
        as_json=common.as_json,
        batch=common.batch,
        wording=in_options,
    )


def options_from(common: Common) -> Options:
    """Return the options of the restoration."""
    from restore.methods.options import Options
    from restore.methods.parameter import parsed

    options = Options(
        method=common.method,
        steps=common.steps,
        eta=common.eta,
        seed=common.seed,
        samples=common.samples,
        sampler=common.sampler,
        start=common.start,
        start_noise=common.start_noise,
        label=common.label,
        prompt=common.prompt,
        negative_prompt=common.negative_prompt,
        clip=common.clip,
        clip_scale=common.clip_scale,
        cutouts=common.cutouts,
        guidance=common.guidance,
        fidelity=common.fidelity,
        fast=common.fast,
        parameters=None if common.parameters is None else parsed(common.parameters),
    )
    if common.levels is None:
        return options

    from restore.evaluate.tune import read_levels

    found = read_levels(common.levels)
    eta = found.eta if options.eta is None else options.eta
    return replace(options, levels=found.levels, eta=eta)


def _is_clip(source: Path) -> bool:
    """Return True for a clip, not for a folder with the suffix of one."""
    return is_clip(source) and not is_pattern(source) and not source.is_dir()


def _cluster(common: Common) -> Cluster | None:
    """Return the cluster that restores a folder; None for this process."""
    from restore.jobs.ray_engine import Cluster

    if common.engine not in ("local", "ray"):
        raise BadArgument(f"--engine {common.engine}: must be local or ray")

    cluster = Cluster(common.ray_address, common.workers, common.worker_cpus, common.worker_gpus)
    if common.engine == "ray":
        return cluster
    if cluster != Cluster():
        raise BadArgument(
            "--workers, --worker-cpus, --worker-gpus, --ray-address: are for --engine ray"
        )

    return None


def _run(request: Request) -> None:
    """Run a request, on clips or on pictures; through pipes if it names ``-``.

    Raises:
        RestoreError: with its exit code.
    """
    if isinstance(request.source, Path) and _is_clip(request.source):
        from restore.jobs.film import FilmRun

        FilmRun(request).go()
        return

    from restore.jobs.clip_folder import ClipFolderRun, holds_clips_alone
    from restore.jobs.pipes import piped
    from restore.jobs.run import Run

    if not request.watch and holds_clips_alone(request):
        ClipFolderRun(request).go()
        return

    with piped(request) as opened:
        Run(opened).go()
