"""The `restore` command: options in, one call into restore/, exit code out."""

from __future__ import annotations

import inspect
import json
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from pretrained import when_missing
from restore import __version__
from restore.commands import downloads as models
from restore.commands import models as models_command
from restore.commands.options import (
    BLURS,
    BOUNDARIES,
    KINDS,
    RESAMPLERS,
    TASKS,
    ClassOption,
    Common,
    DeviceOption,
    ModelOption,
    YesOption,
    kind_of,
    words,
)
from restore.errors import BadArgument, NothingToDo, RestoreError, Unavailable

if TYPE_CHECKING:
    from restore.jobs.plan import Job
    from restore.jobs.ray_engine import Cluster
    from restore.methods.settings import Options

# Large tensors on huge pages: a third less time in the network on a CPU. PyTorch reads this when it
# starts.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

EPILOG = (
    "Exit codes: 0 done; 1 bad arguments; 2 unreadable input; 3 missing device or model; 5 a file "
    "or folder cannot be read or written; 6 nothing to do; 10 some pictures of a folder failed; "
    "15 anything else; 130 interrupted."
)

app = typer.Typer(
    name="restore",
    help="Restore photographs: super-resolution, inpainting, deblurring, denoising, colourising.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
)
app.add_typer(models_command.app, name="models")

Input = Annotated[
    Path,
    typer.Argument(
        metavar="IN", help="A picture, a folder of pictures, a pattern in quotes, or - for stdin."
    ),
]
Output = Annotated[
    Path | None,
    typer.Argument(
        metavar="[OUT]",
        help="Where to write: a file or folder, - for stdout. Default: IN-TASK beside IN.",
    ),
]
NoiseOption = Annotated[
    str,
    typer.Option(
        "--noise",
        help="Standard deviation of the noise in IN, for pixels in [0, 1]; or auto.",
        autocompletion=words(("auto",)),
    ),
]


def task(function: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Make a command of a function that returns a task's arguments: add `Common`'s options and the
    run itself.
    """
    hints = get_type_hints(function, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()
    ]
    common_hints = get_type_hints(Common, include_extras=True)
    shared = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=f.default,
            annotation=common_hints[f.name],
        )
        for f in fields(Common)
    ]

    def command(**values: Any) -> None:
        common = Common(**{f.name: values.pop(f.name) for f in fields(Common)})
        source = values.pop("source")
        target = values.pop("target")
        if target is not None and common.output is not None:
            raise BadArgument(f"two outputs, {target} and --output {common.output}; give one")

        arguments = function(source, target, **values)

        try:
            run(function.__name__, source, target or common.output, arguments, common)
        except KeyboardInterrupt:
            raise typer.Abort from None

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    KINDS[function.__name__] = {p.name: kind_of(p.annotation) for p in parameters}

    return app.command(name=function.__name__, help=function.__doc__, epilog=EPILOG)(command)


@task
def sr(
    source: Input,
    target: Output = None,
    scale: Annotated[
        float, typer.Option(help="Enlarge by this factor, above 1 and up to 16; fractions too.")
    ] = 4,
    noise: NoiseOption = "0",
    kernel: Annotated[
        str,
        typer.Option(
            help="How IN was made small: bicubic, area or lanczos.",
            autocompletion=words(RESAMPLERS),
        ),
    ] = "bicubic",
    cascade: Annotated[
        str | None,
        typer.Option(
            help=(
                "Enlarge in stages whose factors make the scale, as in 4x4; auto: factors of at "
                "most 4."
            ),
            autocompletion=words(("auto", "2x2", "4x2", "4x4")),
        ),
    ] = None,
    cascade_noise: Annotated[
        float | None,
        typer.Option(
            help="Between two stages: standard deviation for pixels in [0, 1]. Default: what "
            "measured best."
        ),
    ] = None,
) -> dict[str, Any]:
    """Super-resolution: enlarge a picture and bring back its detail."""
    arguments = {"scale": scale, "noise": _noise(noise), "kernel": kernel}
    return {**arguments, "cascade": cascade, "cascade_noise": cascade_noise}


@task
def inpaint(
    source: Input,
    target: Output = None,
    mask: Annotated[
        Path,
        typer.Option(
            help="White where to fill. For a folder: one mask for all, or a folder of masks."
        ),
    ] = ...,  # type: ignore[assignment]
    noise: NoiseOption = "0",
    threshold: Annotated[
        float, typer.Option(help="Brightness in [0, 1] above which a mask is white.")
    ] = 0.5,
    dilate: Annotated[int, typer.Option(help="Grow what is filled by this many pixels.")] = 0,
    feather: Annotated[
        float,
        typer.Option(
            help="Blend the fill with what IN shows inside the mask, over so many pixels."
        ),
    ] = 0,
) -> dict[str, Any]:
    """Inpainting: fill what a mask marks; every other pixel stays exactly as it is."""
    return {
        "mask": mask,
        "noise": _noise(noise),
        "threshold": threshold,
        "dilate": dilate,
        "feather": feather,
    }


@task
def deblur(
    source: Input,
    target: Output = None,
    kernel: Annotated[
        str,
        typer.Option(
            help="gaussian:SIGMA, motion:LENGTH:ANGLE, disk:RADIUS, box:N or file:PATH, lengths "
            "in pixels "
            "(restore operators has all).",
            autocompletion=words(BLURS),
        ),
    ] = ...,  # type: ignore[assignment]
    noise: NoiseOption = "auto",
    boundary: Annotated[
        str,
        typer.Option(
            help="What lay beyond the border: unknown, as of every photograph; or symmetric, "
            "mirror, replicate, "
            "circular, zero.",
            autocompletion=words(BOUNDARIES),
        ),
    ] = "unknown",
) -> dict[str, Any]:
    """Deblurring: undo a blur whose kernel is known."""
    return {"kernel": kernel, "noise": _noise(noise), "boundary": boundary}


@task
def denoise(source: Input, target: Output = None, noise: NoiseOption = "auto") -> dict[str, Any]:
    """Denoising: remove white noise."""
    return {"noise": _noise(noise)}


@task
def colorize(source: Input, target: Output = None, noise: NoiseOption = "0") -> dict[str, Any]:
    """Colourising: give a grey picture colours."""
    return {"noise": _noise(noise)}


@task
def solve(
    source: Input,
    target: Output = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="What made IN, as in blur:gaussian:2+down:bicubic:4. A .npz of restore degrade "
            "knows it."
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of the noise in IN, for pixels in [0, 1]; or auto. Default: "
            "that of a .npz; else "
            "auto for blurs, 0 or the rounding of 8 bits for others.",
            autocompletion=words(("auto",)),
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of the result, where IN does not tell, as of hadamard."),
    ] = None,
) -> dict[str, Any]:
    """Restore what any operator made: a picture, or a measurement of restore degrade (.npz)."""
    if operator is None and not source.is_dir() and source.suffix.lower() != ".npz":
        raise BadArgument(
            "--operator is missing: how was IN made? (restore operators lists what can be written)"
        )
    return {
        "operator": operator,
        "noise": None if noise is None else _noise(noise),
        "size": _size(size),
    }


@app.command(name="degrade", epilog=EPILOG)
def degrade(
    source: Input,
    target: Output = None,
    operator: Annotated[
        str,
        typer.Option(
            help="As in blur:gaussian:2+down:bicubic:4; restore operators lists what can be "
            "written."
        ),
    ] = ...,  # type: ignore[assignment]
    noise: Annotated[
        float, typer.Option(help="Standard deviation of added noise, for pixels in [0, 1].")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the noise.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary; errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each picture on stdout.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Make test inputs: a degraded picture, and beside it the measurement as numbers (.npz)."""
    from restore.jobs.plan import Wanted, plan_run
    from restore.jobs.run import degrade_all
    from restore.tasks.problem import check_arguments

    check_arguments({"operator": operator, "noise": noise})
    plan = plan_run(source, target, "degrade", Wanted(overwrite=overwrite))

    def own_seed(job: Job) -> int:
        return (
            seed + zlib.crc32(plan.name(job).encode(errors="surrogateescape"))
            if plan.is_folder
            else seed
        )

    degrade_all(plan, operator, noise, own_seed, overwrite=overwrite, quiet=quiet, as_json=as_json)


@app.command(name="train", epilog=EPILOG)
def train(
    out: Annotated[
        Path, typer.Option(help="The run's folder: recipe, log, samples, checkpoints, model.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="A folder of photographs to learn from.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A TOML file; what it leaves out has defaults.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the run in minutes.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Length of the run in steps, instead of minutes.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, exactly.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: default, or a .safetensors file.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="A folder of pictures for the sample sheet.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A folder to keep decoded pictures in.")
    ] = None,
    device: DeviceOption = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; notices and errors only.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Train a model on your own photographs: prior and conditional model in one network.

    Ctrl-C writes a checkpoint first. For several GPUs: torchrun --nproc-per-node N -m cli train …
    """
    from restore.runtime.devices import keep_freed_memory
    from restore.training.lines import TrainingLines
    from restore.training.trainer import Options, train

    keep_freed_memory()
    options = Options(out, data, recipe, minutes, steps, resume, init, device, validation, cache)
    lines = TrainingLines(_say, quiet=quiet)
    summary = train(options, progress=lines, notice=lambda text: _say(f"restore: {text}"))
    quality = "".join(f", {name} {value:.2f} dB" for name, value in summary.quality.items())
    if not quiet and summary.quality:  # the first of several processes
        minutes = summary.seconds / 60
        _say(
            f"{summary.model}: {summary.steps} steps in {minutes:.1f} min, loss "
            f"{summary.loss:.5f}{quality}"
        )


@app.command(name="evaluate", epilog=EPILOG)
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
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of noise, masks and samplers.")
    ] = 0,
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
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
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
    command(source, settings, Outputs(report, json_file, markdown, overwrite), quiet=quiet)


@app.command(name="tune", epilog=EPILOG)
def tune(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of sharp pictures that the model was not trained on."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE.json", help="For --levels; a search that was ended goes on."),
    ],
    steps: Annotated[int, typer.Option(help="How many noise levels.")] = 10,
    scale: Annotated[float, typer.Option(help="Of the super-resolution that they are for.")] = 4,
    kernel: Annotated[
        str,
        typer.Option(help="Likewise: bicubic, area or lanczos.", autocompletion=words(RESAMPLERS)),
    ] = "bicubic",
    noise: Annotated[
        float, typer.Option(help="Likewise: standard deviation for pixels in [0, 1].")
    ] = 0.0,
    score: Annotated[
        str,
        typer.Option(
            help="What is to be best: lpips or psnr.", autocompletion=words(("lpips", "psnr"))
        ),
    ] = "lpips",
    size: Annotated[
        int, typer.Option(help="Side of the middle square that is taken of each picture.")
    ] = 96,
    count: Annotated[int, typer.Option(help="How many pictures, the first in name order.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers.")] = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever --out holds.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The result only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Find the few noise levels that serve SR3 best, on held-out pictures."""
    from restore.evaluate.tune import Request, told, tune
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()
    request = Request(
        source, steps, scale, kernel, noise, score, size, count, seed, model, device, label
    )
    best = tune(request, out, overwrite=overwrite, tell=(lambda text: None) if quiet else _say)
    typer.echo(f"{out}: {told(best)}")


@app.command(name="info", epilog=EPILOG)
def info(
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Show what would be used: device, model, methods, versions; and what is missing."""
    from restore.commands.info import gather, problems, text

    gathered = gather(model, device)
    typer.echo(json.dumps(gathered, ensure_ascii=False, indent=1) if as_json else text(gathered))
    if found := problems(gathered):
        raise Unavailable("; ".join(found))


@app.command(epilog=EPILOG)
def sample(
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A picture of them all; with --separate a folder.")
    ],
    count: Annotated[int, typer.Option(help="How many.")] = 9,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of each, in pixels. Default: the model's own, or 128x128."),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="As in ddim or heun; a wrong name lists all. Default: dpmpp-2m; of a distilled "
            "model ddim."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Noise levels; some samplers take several calls at each. Default: 20; of a "
            "distilled model its own."
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Their grid: uniform, quadratic, karras or log-snr. Default: the sampler's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers.")] = 0,
    separate: Annotated[
        bool, typer.Option("--separate", help="A file for each, in the folder OUT.")
    ] = False,
    trajectory: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a picture of how the first four came about."),
    ] = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
    ] = False,
) -> None:
    """Draw pictures from the prior alone, by any sampler."""
    from restore.jobs.samples import Request, sample_to

    shape = _size(size)
    sides = {} if shape is None else {"width": shape[0], "height": shape[1]}
    wanted = {"count": count, "sampler": sampler, "steps": steps, "levels": levels, "seed": seed}
    sample_to(
        Request(target, separate, trajectory, overwrite, model, device, label),
        quiet=quiet,
        **sides,
        **wanted,
    )


@app.command(name="score-norms", epilog=EPILOG)
def score_norms(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of photographs.")],
    count: Annotated[int, typer.Option(help="How many squares of them.")] = 64,
    size: Annotated[
        int | None, typer.Option(help="Their side in pixels. Default: the model's own size, or 96.")
    ] = None,
    levels: Annotated[
        int, typer.Option("--noise-levels", help="How many; at each the network sees every square.")
    ] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.norms.json", help="Where to write. Default: the cache, for sampling."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers.")] = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE.norms.json.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
    ] = False,
) -> None:
    """Estimate how large a model's score is, once, for analytic-ddpm and -ddim."""
    from restore.jobs.score_norms import Estimate, estimate_to

    wanted = Estimate(source, model, device, label, count, size, levels, seed)
    path = estimate_to(wanted, out, overwrite=overwrite, quiet=quiet)
    if not quiet:
        _say(f"restore: score norms of {model} at {path}")


@app.command(epilog=EPILOG)
def likelihood(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures.")],
    size: Annotated[
        int,
        typer.Option(help="Side in pixels of the square that is taken from the middle of each."),
    ] = 64,
    probes: Annotated[
        int, typer.Option(help="Of Hutchinson's estimate: more are more exact, and slower.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers.")] = 0,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    device: DeviceOption = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="To use on the device in all, as in 4GB. Default: most of what is free."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each picture on stdout.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
    ] = False,
) -> None:
    """How likely pictures are under the prior: bits for each number of a pixel."""
    from restore.jobs.likelihood import Estimator, tell_all

    estimator = Estimator(
        model, device, size=size, probes=probes, seed=seed, memory=memory, label=label
    )
    tell_all(estimator, pictures, as_json=as_json)


@app.command(name="operators")
def list_operators(
    word: Annotated[
        str | None, typer.Argument(metavar="[WORD]", help="Only what begins so, with its units.")
    ] = None,
) -> None:
    """List the degradations that can be written, for --operator and --kernel."""
    from operators.vocabulary import WORDS

    chosen = [w for name, w in WORDS.items() if word is None or name.startswith(word)]
    if not chosen:
        raise BadArgument(f"{word}: no operator begins so; there are {', '.join(WORDS)}")

    for one in chosen:
        typer.echo(one.line if word is None else one.describe())

    if word is None:
        typer.echo(
            "Joined by +, applied from left to right: blur:gaussian:2+down:bicubic:4. Details: "
            "restore operators WORD"
        )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"restore {__version__}")
        raise typer.Exit


def run(
    name: str, source: Path, target: Path | None, arguments: dict[str, Any], common: Common
) -> None:
    """What every task's command does.

    Raises:
        RestoreError: with the exit code that fits.
    """
    from restore.jobs.output import OutputOptions
    from restore.jobs.pipes import piped
    from restore.jobs.run import Request, Run
    from restore.jobs.selection import Shard
    from restore.methods.settings import Options

    request = Request(
        task=name,
        source=source,
        target=target,
        mask=arguments.pop("mask", None),
        arguments=arguments,
        options=_with_levels(
            Options(
                *(
                    common.method,
                    common.steps,
                    common.eta,
                    common.seed,
                    common.samples,
                    common.sampler,
                ),
                start=common.start,
                start_noise=common.start_noise,
                label=common.label,
                guidance=common.guidance,
            ),
            common.levels,
        ),
        output=OutputOptions(common.format, common.quality, common.depth),
        shard=None if common.shard is None else Shard.read(common.shard),
        cluster=_cluster(common),
        **{field: getattr(common, field) for field in _PASSED_ON},
    )

    with piped(request) as opened:
        Run(opened).go()


def _with_levels(options: Options, path: Path | None) -> Options:
    if path is None:
        return options

    from restore.evaluate.tune import read_levels

    found = read_levels(path)
    return replace(
        options, levels=found.levels, eta=found.eta if options.eta is None else options.eta
    )


def _cluster(common: Common) -> Cluster | None:
    from restore.jobs import ray_engine

    if common.engine not in ("local", "ray"):
        raise BadArgument(f"--engine {common.engine}: must be local or ray")

    cluster = ray_engine.Cluster(
        common.ray_address, common.workers, common.worker_cpus, common.worker_gpus
    )
    if common.engine == "ray":
        return cluster
    if cluster != ray_engine.Cluster():
        raise BadArgument(
            "--workers, --worker-cpus, --worker-gpus, --ray-address: are for --engine ray"
        )

    return None


_PASSED_ON = (
    *(
        "model",
        "device",
        "tile",
        "memory",
        "overwrite",
        "resume",
        "pages",
        "files_from",
        "dry_run",
        "watch",
        "compare",
    ),
    *("report", "quiet", "as_json", "batch"),
)


def _noise(text: str) -> Any:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise BadArgument(
            f"--noise {text}: must be a standard deviation between 0 and 1, or auto"
        ) from None


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise BadArgument(f"--size {text}: must be WIDTHxHEIGHT in pixels, as in 640x480")
    return int(width), int(height)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _complain(text: str) -> None:
    _say(f"restore: error: {text}")


def main() -> None:
    """Run the command and end with a documented exit code."""
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: list[str]) -> int:
    """Run the command with these arguments; say on stderr what went wrong."""
    usage_error = typer.BadParameter.__mro__[1]
    failed = partial(_failed, debug="--debug" in arguments)
    try:
        with when_missing(models.ask):
            return app(arguments or ["--help"], prog_name="restore", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except NothingToDo as error:
        _say(f"restore: {error}")
        return error.exit_code
    except RestoreError as error:
        return failed(error, str(error), error.exit_code)
    except usage_error as error:
        return failed(
            error,
            f"{error.format_message()} (restore --help shows the options)",
            BadArgument.exit_code,
        )
    except MemoryError as error:
        return failed(error, "not enough memory for a picture of this size", RestoreError.exit_code)
    except Exception as error:
        return failed(
            error, f"{type(error).__name__}: {error} (--debug shows where)", RestoreError.exit_code
        )


def _failed(error: Exception, text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    _complain(text)
    return code


if __name__ == "__main__":
    main()
