"""Options that all tasks share, and the words that shells complete for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer

from restore.commands.config import Commands, Option, read_options
from restore.commands.models import names as model_names
from restore.device_names import CHOICES, CHOICES_IN_WORDS
from restore.methods import NAMES
from restore.tasks.deblur import BLURS, BOUNDARIES
from restore.tasks.sr import KERNELS

__all__ = ["BLURS", "BOUNDARIES", "RESAMPLERS"]

METHODS = ("auto", *NAMES)
DEVICES = CHOICES
RESAMPLERS = KERNELS


def words(known: tuple[str, ...]) -> Callable[[], list[str]]:
    """Return a completion callback for an option with known words."""
    return lambda: list(known)


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Use the options of a file as defaults of the command."""
    if path is not None and not context.resilient_parsing:
        assert context.parent is not None
        values = read_options(path, str(context.info_name), _configurable(context.parent.command))
        context.default_map = {**(context.default_map or {}), **values}
    return path


Input = Annotated[
    Path,
    typer.Argument(
        metavar="IN", help="A picture, a folder of pictures, a quoted pattern, or - for stdin."
    ),
]
Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="IN… [OUT]",
        help="A picture or clip, a folder of pictures, a quoted pattern, or - for stdin; then the "
        "output file or folder, or - for stdout. Default: IN-TASK beside IN. Several inputs need "
        "--output FOLDER.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Argument(
        metavar="[OUT]",
        help="Output file or folder, or - for stdout. Default: IN-TASK beside IN.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(min=0, max=2**63 - 1, help="Random seed; the same seed gives the same result."),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="Model: default, a name from restore models, hf:OWNER/REPO, a checkpoint file, or the "
        "folder of a pipeline of diffusers.",
        autocompletion=model_names,
    ),
]
YesOption = Annotated[
    bool,
    typer.Option("--yes/--no-yes", help="Download a missing --model without asking."),
]
ClassOption = Annotated[
    int | None,
    typer.Option(
        "--class", metavar="N", help="Class label for a class-conditional model, counted from 0."
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What the picture shows, for --clip or a model with text.",
    ),
]
NegativePromptOption = Annotated[
    str | None,
    typer.Option(
        "--negative-prompt", metavar="TEXT", help="What guidance by the prompt leads away from."
    ),
]
ClipOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="CLIP model by which --prompt guides a model of pixels: a folder or hf:OWNER/REPO.",
    ),
]
ClipScaleOption = Annotated[
    float | None, typer.Option(help="Strength of --clip, 0 or more. Default: 1000.")
]
CutoutsOption = Annotated[
    int | None,
    typer.Option(help="Pieces of the picture that --clip sees at each step. Default: 16."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.")]
DeviceOption = Annotated[
    str, typer.Option(help=f"Device: {CHOICES_IN_WORDS}.", autocompletion=words(DEVICES))
]


@dataclass(frozen=True)
class Common:
    """Options that all tasks share."""

    method: Annotated[
        str,
        typer.Option(
            help="Method: auto (best for the task), a name from restore methods, or spandrel:FILE.",
            autocompletion=words(METHODS),
        ),
    ] = "auto"
    steps: Annotated[
        int | None, typer.Option(help="Network calls per sample. Default: the method's.")
    ] = None
    eta: Annotated[
        float | None,
        typer.Option(help="Fraction of fresh noise in each step, 0 to 1. Default: the method's."),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(help="Sampler of sr3, such as ddim, dpmpp-2m or heun. Default: its own."),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURE",
            help="Initial picture, a folder of pictures with the same names, or spandrel:FILE.",
        ),
    ] = None
    start_noise: Annotated[
        float | None,
        typer.Option(help="Noise level added to --start, for pixels in [0, 1]. Default: 0.2."),
    ] = None
    levels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Noise levels of sr3, as found by restore tune. Default: its own.",
        ),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Classifier-free guidance scale of sr3, or of the prompt, 0 or more; 1 is none. "
            "Default: 1, or the model's own beside a prompt."
        ),
    ] = None
    fast: Annotated[
        bool,
        typer.Option("--fast/--no-fast", help="The best result of at most 8 network calls."),
    ] = False
    fidelity: Annotated[
        float | None,
        typer.Option(
            help="From 0, the sharpest, to 1, nearest to the original in PSNR. Default: the "
            "method's own."
        ),
    ] = None
    parameters: Annotated[
        str | None,
        typer.Option(
            "--parameter",
            metavar="NAME=NUMBER,…",
            help="The method's own parameters; restore methods lists them. Default: the method's.",
        ),
    ] = None
    seed: SeedOption = 0
    samples: Annotated[
        int, typer.Option(help="Number of posterior samples; OUT is their mean.")
    ] = 1
    model: ModelOption = "default"
    yes: YesOption = False
    label: ClassOption = None
    prompt: PromptOption = None
    negative_prompt: NegativePromptOption = None
    clip: ClipOption = None
    clip_scale: ClipScaleOption = None
    cutouts: CutoutsOption = None
    device: DeviceOption = "auto"
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile of a large picture, in pixels. Default: what fits in memory."
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory to use on the device, such as 4GB. Default: most of what is free."
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(help="Maximum number of pictures in a batch. Default: what suits the device."),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output file or folder, instead of [OUT].", show_default=False
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            help="Output format: png, jpeg, webp, tiff or bmp. Default: by suffix, or as IN.",
            autocompletion=words(("png", "jpeg", "webp", "tiff", "bmp")),
        ),
    ] = None
    quality: Annotated[
        int | None,
        typer.Option(
            help="Quality of a JPEG, WebP or clip, 1 to 100. Default: that of IN, if it is high; "
            "of a clip, 70."
        ),
    ] = None
    depth: Annotated[
        int | None,
        typer.Option(help="Bits per channel: 8, 16 (PNG, TIFF) or 32 (TIFF). Default: as IN."),
    ] = None
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare",
            help="Also write before and after side by side, to OUT.compare.png.",
        ),
    ] = False
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.html",
            help="Write an HTML report: before and after, differences, settings.",
        ),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Overwrite existing files.")
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="In a folder or clip, keep what is done; otherwise refuse to start, or begin "
            "again.",
        ),
    ] = True
    pages: Annotated[
        bool,
        typer.Option(
            "--pages/--no-pages",
            help="Restore each page of a TIFF or frame of an animation, to OUT.pageN.",
        ),
    ] = False
    allow_truncated: Annotated[
        bool,
        typer.Option(
            "--allow-truncated/--no-truncated",
            help="Restore what is there of a JPEG, PNG or clip whose file ends too early.",
        ),
    ] = False
    files_from: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST",
            help="Only these files, named relative to folder IN, one per line or NUL-terminated; - "
            "is stdin.",
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/N", help="Only part i of N of the folder, for N runs at once."),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run/--no-dry-run", help="Show what would be restored, without doing it."
        ),
    ] = False
    engine: Annotated[
        str,
        typer.Option(
            help="Engine that restores a folder: local or ray.",
            autocompletion=words(("local", "ray")),
        ),
    ] = "local"
    workers: Annotated[int, typer.Option(help="Number of models, for --engine ray.")] = 1
    worker_cpus: Annotated[float, typer.Option(help="CPUs per model, for --engine ray.")] = 1.0
    worker_gpus: Annotated[float, typer.Option(help="GPUs per model, for --engine ray.")] = 0.0
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Cluster address, for --engine ray. Default: RAY_ADDRESS, or this machine alone."
        ),
    ] = None
    watch: Annotated[
        bool,
        typer.Option(
            "--watch/--no-watch", help="Watch the folder and restore new pictures until Ctrl-C."
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet/--no-quiet", "-q", help="Show errors only, no progress or summary."),
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json/--no-json", help="Print one JSON object per picture on stdout.")
    ] = False
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Read options from a file; the command line takes precedence.",
            callback=load_config,
            is_eager=True,
        ),
    ] = None
    debug: DebugOption = False


# The types of each task's parameters, by the task's name.
KINDS: dict[str, dict[str, Any]] = {}


def kind_of(annotation: Any) -> Any:
    """Return the plain type of an annotation: ``int`` for ``Annotated[int | None, …]``."""
    plain = get_args(annotation)[0]
    return next((kind for kind in get_args(plain) if kind is not NoneType), plain)


def _configurable(group: Any) -> Commands:
    """Return what a file may set: every visible option of the tasks except the file itself."""
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
