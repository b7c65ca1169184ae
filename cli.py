"""The `restore` command: options in, one call into restore/, exit code out."""

from __future__ import annotations

import inspect
import json
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from restore import __version__
from restore.errors import BadArgument, NothingToDo, RestoreError, SomeFailed

if TYPE_CHECKING:
    from restore.folder import Job, Plan
    from restore.progress import Progress

# Large tensors on huge pages: a third less time in the network on a CPU. PyTorch reads this when it starts.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

EPILOG = (
    "Exit codes: 0 done; 1 bad arguments; 2 unreadable input; 3 missing device or model; 5 a file or folder cannot "
    "be read or written; 6 nothing to do; 10 some pictures of a folder failed; 15 anything else; 130 interrupted."
)

app = typer.Typer(
    name="restore",
    help="Restore photographs: super-resolution, inpainting, deblurring, denoising, colourising.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
)

Input = Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder of pictures.")]
Output = Annotated[
    Path | None,
    typer.Argument(metavar="[OUT]", help="Where to write: a file or folder. Default: IN-TASK beside IN."),
]
NoiseOption = Annotated[
    str,
    typer.Option("--noise", help="Standard deviation of the noise in IN, for pixels in [0, 1]; or auto."),
]


@dataclass(frozen=True)
class Common:
    """Options that every task has."""

    method: Annotated[str, typer.Option(help="auto, ddrm, diffpir, sr3 or one-step. auto is what measured best.")] = (
        "auto"
    )
    steps: Annotated[int | None, typer.Option(help="Network calls for each sample. Default: the method's.")] = None
    eta: Annotated[float | None, typer.Option(help="Fresh noise in each step, 0 to 1. Default: the method's.")] = None
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of the random numbers: the same seed, the same picture.")
    ] = 0
    samples: Annotated[int, typer.Option(help="Posterior samples to draw; OUT is then their mean.")] = 1
    model: Annotated[str, typer.Option(help="default, or a .safetensors file with its .json beside it.")] = "default"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto"
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write, instead of [OUT].", show_default=False)
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each picture on stdout.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)] = False


def task(function: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Make a command of a function that returns a task's arguments: add `Common`'s options and the run itself."""
    hints = get_type_hints(function, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()]
    common_hints = get_type_hints(Common, include_extras=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=common_hints[f.name])
        for f in fields(Common)
    ]

    def command(**values: Any) -> None:
        common = Common(**{f.name: values.pop(f.name) for f in fields(Common)})
        source, target = values.pop("source"), values.pop("target")
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
    return app.command(name=function.__name__, help=function.__doc__, epilog=EPILOG)(command)


@task
def sr(
    source: Input,
    target: Output = None,
    scale: Annotated[float, typer.Option(help="Enlarge by this factor, above 1 and up to 16; fractions too.")] = 4,
    noise: NoiseOption = "0",
    kernel: Annotated[str, typer.Option(help="How IN was made small: bicubic, area or lanczos.")] = "bicubic",
) -> dict[str, Any]:
    """Super-resolution: enlarge a picture and bring back its detail."""
    return {"scale": scale, "noise": _noise(noise), "kernel": kernel}


@task
def inpaint(
    source: Input,
    target: Output = None,
    mask: Annotated[
        Path, typer.Option(help="White where to fill. For a folder: one mask for all, or a folder of masks.")
    ] = ...,  # type: ignore[assignment]
    noise: NoiseOption = "0",
    threshold: Annotated[float, typer.Option(help="Brightness in [0, 1] above which a mask is white.")] = 0.5,
    dilate: Annotated[int, typer.Option(help="Grow what is filled by this many pixels.")] = 0,
    feather: Annotated[
        float, typer.Option(help="Blend the fill with what IN shows inside the mask, over so many pixels.")
    ] = 0,
) -> dict[str, Any]:
    """Inpainting: fill what a mask marks; every other pixel stays exactly as it is."""
    return {"mask": mask, "noise": _noise(noise), "threshold": threshold, "dilate": dilate, "feather": feather}


@task
def deblur(
    source: Input,
    target: Output = None,
    kernel: Annotated[
        str,
        typer.Option(
            help="gaussian:SIGMA, motion:LENGTH:ANGLE, disk:RADIUS, box:N or file:PATH, lengths in pixels "
            "(restore operators has all)."
        ),
    ] = ...,  # type: ignore[assignment]
    noise: NoiseOption = "auto",
    boundary: Annotated[
        str,
        typer.Option(
            help="What lay beyond the border: unknown, as of every photograph; or symmetric, mirror, replicate, "
            "circular, zero."
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
        typer.Option(help="What made IN, as in blur:gaussian:2+down:bicubic:4. A .npz of restore degrade knows it."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of the noise in IN, for pixels in [0, 1]; or auto. Default: that of a .npz; else "
            "auto for blurs, 0 or the rounding of 8 bits for others."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the result, where IN does not tell, as of hadamard.")
    ] = None,
) -> dict[str, Any]:
    """Restore what any operator made: a picture, or a measurement of restore degrade (.npz)."""
    if operator is None and not source.is_dir() and source.suffix.lower() != ".npz":
        raise BadArgument("--operator is missing: how was IN made? (restore operators lists what can be written)")
    return {"operator": operator, "noise": None if noise is None else _noise(noise), "size": _size(size)}


@app.command(name="degrade", epilog=EPILOG)
def degrade(
    source: Input,
    target: Output = None,
    operator: Annotated[
        str, typer.Option(help="As in blur:gaussian:2+down:bicubic:4; restore operators lists what can be written.")
    ] = ...,  # type: ignore[assignment]
    noise: Annotated[float, typer.Option(help="Standard deviation of added noise, for pixels in [0, 1].")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the noise.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary; errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each picture on stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Make test inputs: a degraded picture, and beside it the measurement as numbers (.npz)."""
    from restore.folder import degrade_file, plan_run
    from restore.tasks import check_arguments

    check_arguments({"operator": operator, "noise": noise})
    plan = plan_run(source, target, "degrade", overwrite=overwrite)

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        own_seed = seed if not plan.is_folder else seed + zlib.crc32(str(job.source.relative_to(source)).encode())
        return degrade_file(job, operator, noise, own_seed, overwrite=overwrite)

    def summary(target: Path, done: dict[str, Any]) -> str:
        return f"{target}: measured {done['measured']} (.npz beside it), noise {done['noise']:g}"

    _finish(plan, _each_job(plan, work, summary, quiet=quiet, as_json=as_json))


@app.command(name="train", epilog=EPILOG)
def train(
    out: Annotated[Path, typer.Option(help="The run's folder: recipe, log, samples, checkpoints, model.")],
    data: Annotated[Path | None, typer.Option(help="A folder of photographs to learn from.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML file; what it leaves out has defaults.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the run in minutes.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run in steps, instead of minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, exactly.")] = False,
    init: Annotated[str | None, typer.Option(help="Weights to start from: default, or a .safetensors file.")] = None,
    validation: Annotated[Path | None, typer.Option(help="A folder of pictures for the sample sheet.")] = None,
    cache: Annotated[Path | None, typer.Option(help="A folder to keep decoded pictures in.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notices and errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Train a model on your own photographs: prior and conditional model in one network.

    Ctrl-C writes a checkpoint first. For several GPUs: torchrun --nproc-per-node N -m cli train …
    """
    from restore.devices import keep_freed_memory
    from restore.progress import TrainingLines
    from restore.training.trainer import Options, train

    keep_freed_memory()
    options = Options(out, data, recipe, minutes, steps, resume, init, device, validation, cache)
    lines = TrainingLines(_say, quiet=quiet)
    summary = train(options, progress=lines, notice=lambda text: _say(f"restore: {text}"))
    quality = "".join(f", {name} {value:.2f} dB" for name, value in summary.quality.items())
    if not quiet and summary.quality:  # the first of several processes
        minutes = summary.seconds / 60
        _say(f"{summary.model}: {summary.steps} steps in {minutes:.1f} min, loss {summary.loss:.5f}{quality}")


@app.command(name="evaluate", epilog=EPILOG)
def evaluate(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of sharp pictures; they are degraded first.")],
    task: Annotated[str, typer.Option(help="sr, inpaint, deblur, denoise, colorize or solve.")] = ...,  # type: ignore[assignment]
    scale: Annotated[float | None, typer.Option(help="Of sr: above 1 and up to 16. Default: 4.")] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            help="Of sr: bicubic, area or lanczos. Of deblur: gaussian:SIGMA, motion:LENGTH:ANGLE, … "
            "Default: bicubic, gaussian:2."
        ),
    ] = None,
    boundary: Annotated[
        str | None, typer.Option(help="Of deblur: what lies beyond the border. Default: unknown, as of a photograph.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="Of inpaint: a picture, white = fill, or a folder of them; or random:0.5, strokes, box:64."),
    ] = None,
    operator: Annotated[str | None, typer.Option(help="Of solve: as in blur:gaussian:2+down:bicubic:4.")] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of added noise, for pixels in [0, 1]. Default: deblur 0.01, denoise 0.098, else 0."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the middle square that is taken; 0: whole pictures.")] = 0,
    count: Annotated[int | None, typer.Option(help="How many pictures, the first in name order. Default: all.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Joined by commas, as in bicubic,ddrm. Default: all that suit.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Network calls of ddrm, diffpir, sr3. Default: the method's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of noise, masks and samplers.")] = 0,
    report: Annotated[Path | None, typer.Option(metavar="OUT.html", help="A page with the table and pictures.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Settings, versions, every picture's numbers.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="OUT.md", help="What is shown on stdout.")] = None,
    model: Annotated[str, typer.Option(help="default, or a .safetensors file with its .json beside it.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; the table and errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Measure: degrade the pictures of a folder, restore them by every method, compare with the truth."""
    from restore.devices import keep_freed_memory
    from restore.evaluate import Outputs, Settings, command

    keep_freed_memory()
    wanted = () if methods is None else tuple(name.strip() for name in methods.split(","))
    settings = Settings(
        task, scale, kernel, boundary, mask, operator, noise, size, count, wanted, steps, seed, model, device
    )
    command(source, settings, Outputs(report, json_file, markdown, overwrite), quiet=quiet)


@app.command(name="operators")
def list_operators(
    word: Annotated[str | None, typer.Argument(metavar="[WORD]", help="Only what begins so, with its units.")] = None,
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
            "Joined by +, applied from left to right: blur:gaussian:2+down:bicubic:4. Details: restore operators WORD"
        )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"restore {__version__}")
        raise typer.Exit


def run(name: str, source: Path, target: Path | None, arguments: dict[str, Any], common: Common) -> None:
    """Plan, load the model, restore every picture, report.

    Raises:
        RestoreError: with the exit code that fits.
    """
    from restore.devices import keep_freed_memory
    from restore.folder import plan_run, restore_file
    from restore.restorer import Options, Restorer, check

    mask = arguments.pop("mask", None)
    options = check(name, arguments, Options(common.method, common.steps, common.eta, common.seed, common.samples))
    plan = plan_run(source, target, name, mask=mask, overwrite=common.overwrite, samples=common.samples)
    if name == "solve" and not common.quiet:
        _mention_borders(plan, arguments["operator"])
    keep_freed_memory()
    restorer = Restorer(common.model, common.device)

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        return restore_file(restorer, job, name, arguments, options, overwrite=common.overwrite, callback=progress.step)

    _finish(plan, _each_job(plan, work, _summary, options.samples, quiet=common.quiet, as_json=common.as_json))


def _mention_borders(plan: Plan, operator: str | None) -> None:
    """Where pictures are taken for blurred with a border that photographs have not."""
    from restore.tasks import assumed_borders

    blurs = assumed_borders(operator) if operator else []
    if blurs and any(job.source.suffix.lower() not in (".npz", ".npy") for job in plan.jobs):
        _say(f"restore: the border of {' and '.join(blurs)} is taken for mirrored; boundary=unknown suits a photograph")


def _finish(plan: Plan, failures: list[str]) -> None:
    if failures:
        raise SomeFailed(f"{len(failures)} of {len(plan.jobs)} pictures failed: {', '.join(failures)}")


def _each_job(
    plan: Plan,
    work: Callable[[Job, Progress], dict[str, Any]],
    summary: Callable[[Path, dict[str, Any]], str],
    samples: int = 1,
    *,
    quiet: bool,
    as_json: bool,
) -> list[str]:
    """Do every job; in a folder, go on after a bad one and return the names of those."""
    from restore.progress import Progress

    failures = []
    with Progress(len(plan.jobs), samples, quiet=quiet) as progress:
        for job in plan.jobs:
            progress.picture(job.source.name)
            record: dict[str, Any] = {"input": str(job.source)}
            try:
                done = work(job, progress)
                record |= {"status": "done", **done}
                progress.say(summary(job.target, done))
            except Exception as error:
                if not plan.is_folder:
                    raise
                failures.append(str(job.source))
                record |= {"status": "failed", "error": str(error)}
                about = "" if str(job.source) in str(error) else f"{job.source}: "
                _complain(f"{about}{error or type(error).__name__} (going on)")
            if as_json:
                print(json.dumps(record, ensure_ascii=False), flush=True)
    if plan.done and not quiet:
        _say(f"{len(plan.done)} done before and left as they are (--overwrite redoes them)")
    return failures


def _summary(target: Path, done: dict[str, Any]) -> str:
    unexplained = done["consistency"] > max(0.02, 3 * done["noise"])
    doubt = " (this does not explain the input: are its kernel and noise right?)" if unexplained else ""
    return (
        f"{target}: {done['width']}x{done['height']}, {done['method']}, {done['steps']} step(s), "
        f"noise {done['noise']:.4f}, consistency {done['consistency']:.5f}, {done['seconds']:.1f} s{doubt}"
    )


def _noise(text: str) -> Any:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise BadArgument(f"--noise {text}: must be a standard deviation between 0 and 1, or auto") from None


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
        return failed(error, f"{error.format_message()} (restore --help shows the options)", BadArgument.exit_code)
    except MemoryError as error:
        return failed(error, "not enough memory for a picture of this size", RestoreError.exit_code)
    except Exception as error:
        return failed(error, f"{type(error).__name__}: {error} (--debug shows where)", RestoreError.exit_code)


def _failed(error: Exception, text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    _complain(text)
    return code


if __name__ == "__main__":
    main()
