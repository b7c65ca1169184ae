"""The options that every task of the command has, in words that help, completion and files of
options share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer

from restore.commands.config import Commands, Option, read_options
from restore.commands.models import names as model_names
from restore.tasks.deblur import BLURS, BOUNDARIES
from restore.tasks.sr import KERNELS

__all__ = ["BLURS", "BOUNDARIES", "RESAMPLERS"]

# What a shell completes is written down here, so that it need not wait for PyTorch.
METHODS = ("auto", "ddrm", "diffpir", "sr3", "one-step")
DEVICES = ("auto", "cpu", "cuda", "mps")
RESAMPLERS = KERNELS


def words(known: tuple[str, ...]) -> Callable[[], list[str]]:
    """For an option whose words a shell completes."""
    return lambda: list(known)


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a file for the defaults of the command."""
    if path is not None and not context.resilient_parsing:
        assert context.parent is not None
        values = read_options(path, str(context.info_name), _configurable(context.parent.command))
        context.default_map = {**(context.default_map or {}), **values}
    return path


def allow_downloads(context: typer.Context, yes: bool) -> bool:
    """Have a model that is missing downloaded without a question, in this command."""
    if yes and not context.resilient_parsing:
        from pretrained import when_missing
        from restore.commands.downloads import agree

        context.with_resource(when_missing(agree))
    return yes


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
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Random seed: the same seed, the same result.")
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="default, a name of restore models, hf:OWNER/REPO, or a file of weights.",
        autocompletion=model_names,
    ),
]
YesOption = Annotated[
    bool,
    typer.Option(
        "--yes/--no-yes", help="Download --model if it is not here.", callback=allow_downloads
    ),
]
ClassOption = Annotated[
    int | None,
    typer.Option(
        "--class", metavar="N", help="Of a class-conditional model: the class, counted from 0."
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", autocompletion=words(DEVICES))
]


@dataclass(frozen=True)
class Common:
    """Options that every task has."""

    method: Annotated[
        str,
        typer.Option(
            help=(
                "auto, ddrm, diffpir, sr3, one-step, or spandrel:FILE. auto is what measured best."
            ),
            autocompletion=words(METHODS),
        ),
    ] = "auto"
    steps: Annotated[
        int | None, typer.Option(help="Network calls for each sample. Default: the method's.")
    ] = None
    eta: Annotated[
        float | None, typer.Option(help="Fresh noise in each step, 0 to 1. Default: the method's.")
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(help="How sr3 walks, as in ddim, dpmpp-2m or heun. Default: its own."),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURE",
            help="Begin with this picture, a folder's of the same names, or that of spandrel:FILE.",
        ),
    ] = None
    start_noise: Annotated[
        float | None,
        typer.Option(help="To which the start is noised, for pixels in [0, 1]. Default: 0.2."),
    ] = None
    levels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Noise levels of sr3, as restore tune finds them. Default: its own.",
        ),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How far sr3 follows IN beyond what it has learnt: 1 not, 2 twice as far."
        ),
    ] = None
    seed: SeedOption = 0
    samples: Annotated[
        int, typer.Option(help="Posterior samples to draw; OUT is then their mean.")
    ] = 1
    model: ModelOption = "default"
    yes: YesOption = False
    label: ClassOption = None
    device: DeviceOption = "auto"
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels of the network's pieces of a large picture. Default: what fits."
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(help="To use on the device in all, as in 4GB. Default: most of what is free."),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(
            help="Pictures of a folder restored together, at most. Default: what suits; 1: none."
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where to write, instead of [OUT].", show_default=False
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            help="Of OUT: png, jpeg, webp, tiff or bmp. Default: its suffix tells, or as IN.",
            autocompletion=words(("png", "jpeg", "webp", "tiff", "bmp")),
        ),
    ] = None
    quality: Annotated[
        int | None,
        typer.Option(
            help="Of JPEG and WebP outputs, 1 to 100. Default: that of IN, if it is good."
        ),
    ] = None
    depth: Annotated[
        int | None,
        typer.Option(help="Bits a channel: 8, 16 (PNG, TIFF) or 32 (TIFF). Default: as IN."),
    ] = None
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare",
            help="Also write before and after side by side, OUT.compare.png.",
        ),
    ] = False
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.html", help="A page with before and after, what changed, settings."
        ),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that exist.")
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="In a folder, leave out what is done; or refuse to start."
        ),
    ] = True
    pages: Annotated[
        bool,
        typer.Option(
            "--pages/--no-pages",
            help="Each page of a TIFF and frame of an animation, to OUT.pageN.",
        ),
    ] = False
    files_from: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST",
            help="Only these files of the folder IN, a name a line or NUL-ended; - is stdin.",
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/N", help="Only this run's share of the folder, of N runs at once."),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run/--no-dry-run", help="Say what would be restored, and do nothing."),
    ] = False
    engine: Annotated[
        str,
        typer.Option(
            help="What a folder is restored by: local, or ray.",
            autocompletion=words(("local", "ray")),
        ),
    ] = "local"
    workers: Annotated[int, typer.Option(help="Of --engine ray: how many models.")] = 1
    worker_cpus: Annotated[
        float, typer.Option(help="Of --engine ray: processors of each model.")
    ] = 1.0
    worker_gpus: Annotated[float, typer.Option(help="Of --engine ray: GPUs of each model.")] = 0.0
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Of --engine ray: the cluster. Default: RAY_ADDRESS, or this machine alone."
        ),
    ] = None
    watch: Annotated[
        bool,
        typer.Option(
            "--watch/--no-watch", help="Go on with pictures that come into the folder; Ctrl-C ends."
        ),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet/--no-quiet", "-q", help="No progress, no summary; errors only.")
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json/--no-json", help="One JSON object for each picture on stdout.")
    ] = False
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Options from a file; those given here win.",
            callback=load_config,
            is_eager=True,
        ),
    ] = None
    debug: DebugOption = False


# The types of each task's parameters, by the task's name.
KINDS: dict[str, dict[str, Any]] = {}


def kind_of(annotation: Any) -> Any:
    """``int`` of ``Annotated[int | None, …]``."""
    plain = get_args(annotation)[0]
    return next((kind for kind in get_args(plain) if kind is not NoneType), plain)


def _configurable(group: Any) -> Commands:
    """What a file may set: every option of the tasks that is shown in their help, but the file
    itself.
    """
    return {
        name: {
            option.name: option
            for parameter in group.commands[name].params
            if (option := _option(parameter, kinds[parameter.name])) is not None
        }
        for name, kinds in KINDS.items()
    }


def _option(parameter: Any, kind: Any) -> Option | None:
    if parameter.param_type_name != "option" or parameter.hidden or parameter.name == "config":
        return None
    name = next(text.removeprefix("--") for text in parameter.opts if text.startswith("--"))
    return Option(name, parameter.name, kind, number_or_text=name == "noise")
