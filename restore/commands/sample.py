"""`restore sample`: draw samples from the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore.commands.downloads import ensure
from restore.commands.models import classifier_names
from restore.commands.options import (
    ClassOption,
    ClipOption,
    ClipScaleOption,
    CutoutsOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    NegativePromptOption,
    OverwriteOption,
    PromptOption,
    SeedOption,
    YesOption,
)
from restore.errors import BadArgument
from restore.tasks.option import parse_size

Target = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="A picture of all samples in a grid; with --separate, a folder."
    ),
]
PromptScaleOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        help="Scale of classifier-free guidance by --prompt, 0 or more; 1 is none. Default: the "
        "model's own.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Size of a sample in pixels, WIDTHxHEIGHT. Default: the model's own, or 128x128."
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        help="Sampler, such as ddim or heun; an unknown name lists all. Default: dpmpp-2m, or "
        "ddim for a distilled model."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        help="Number of noise levels; some samplers call the network several times at each. "
        "Default: 20, or those of a distilled model."
    ),
]
LevelsOption = Annotated[
    str | None,
    typer.Option(
        help="Noise schedule: uniform, quadratic, karras or log-snr. Default: the sampler's."
    ),
]
TrajectoryOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write the trajectories of the first four samples, as a picture, or as an "
        "animation if FILE ends with .webp.",
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="NOISE.safetensors",
        help="Draw the one picture of a noise that restore invert wrote, by ddim or another "
        "deterministic sampler.",
    ),
]
InterpolateOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="A B",
        help="Draw the way between two pictures of one size: both are inverted to noise, and ddim "
        "draws what lies between. --size takes the centre of both.",
    ),
]
BetweenOption = Annotated[
    int | None,
    typer.Option(help="Number of pictures between those of --interpolate. Default: 9."),
]
GuideOption = Annotated[
    str | None,
    typer.Option(
        metavar="CLASSIFIER",
        help="Guide the samples to --class by a classifier of noisy pictures: a name from restore "
        "models, or a file of restore train.",
        autocompletion=classifier_names,
    ),
]
GuideScaleOption = Annotated[
    float | None,
    typer.Option(
        help="Strength of --guide, 0 or more. Default: 1, Bayes' rule; more draws more typical "
        "pictures of the class."
    ),
]
CascadeOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL,…",
        help="Further models, each of which enlarges by --prompt what the one before drew, such as "
        "the stages of DeepFloyd IF.",
    ),
]
CascadeNoiseOption = Annotated[
    float | None,
    typer.Option(
        help="Noise on a picture before it is enlarged, for pixels in [0, 1]. Default: level 250 "
        "of the stage, or 100 of Stable Diffusion's upscaler."
    ),
]


def sample(
    target: Target,
    count: Annotated[int | None, typer.Option(help="Number of samples. Default: 9.")] = None,
    size: SizeOption = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    levels: LevelsOption = None,
    seed: SeedOption = 0,
    separate: Annotated[
        bool, typer.Option("--separate", help="Write one file per sample, to the folder OUT.")
    ] = False,
    trajectory: TrajectoryOption = None,
    source: FromOption = None,
    interpolate: InterpolateOption = None,
    steps_between: BetweenOption = None,
    model: ModelOption = "default",
    yes: YesOption = False,
    label: ClassOption = None,
    prompt: PromptOption = None,
    negative_prompt: NegativePromptOption = None,
    prompt_scale: PromptScaleOption = None,
    cascade: CascadeOption = None,
    cascade_noise: CascadeNoiseOption = None,
    clip: ClipOption = None,
    clip_scale: ClipScaleOption = None,
    cutouts: CutoutsOption = None,
    guide: GuideOption = None,
    guide_scale: GuideScaleOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Draw samples from the prior, by any sampler, or of a class by a classifier."""
    shape = None if size is None else parse_size(size)
    output = (target, separate, overwrite, model, device, label)
    if source is not None or interpolate is not None:
        unused: dict[str, object] = {"guide": guide, "guide_scale": guide_scale, "count": count}
        unused |= {"cascade": cascade, "cascade_noise": cascade_noise}
        unused |= {"clip": clip, "clip_scale": clip_scale, "cutouts": cutouts}
        unused |= {"trajectory": trajectory, "sampler": sampler, "size": size, "prompt": prompt}
        if interpolate is None:
            unused |= {"steps_between": steps_between, "steps": steps, "levels": levels}
            del unused["sampler"]
        else:
            unused["from"] = source
            del unused["size"]
        option = "interpolate" if interpolate else "from"
        for name, value in unused.items():
            if value is not None:
                raise BadArgument(f"--{name.replace('_', '-')}: not with --{option}")

        from restore.jobs.latent import interpolate_to, redraw_to
        from restore.jobs.place import Place

        place = Place(*output)
        ensure(model, yes=yes)
        if interpolate is not None:
            interpolate_to(
                place,
                interpolate,
                between=9 if steps_between is None else steps_between,
                steps=steps,
                levels=levels,
                size=shape,
                quiet=quiet,
            )
        elif source is not None:
            redraw_to(place, source, sampler=sampler, quiet=quiet)
        return

    if steps_between is not None:
        raise BadArgument(f"`steps_between`={steps_between}: only with --interpolate")

    from restore.jobs.place import Place
    from restore.jobs.samples import sample_to
    from restore.methods.options import Options

    texts = Options(
        prompt=prompt,
        negative_prompt=negative_prompt,
        guidance=prompt_scale,
        clip=clip,
        clip_scale=clip_scale,
        cutouts=cutouts,
        seed=seed,
    )
    sides = {} if shape is None else {"width": shape[0], "height": shape[1]}
    wanted = {"count": count, "sampler": sampler, "steps": steps, "levels": levels, "seed": seed}
    guidance = {"guide": guide, "guide_scale": guide_scale}
    ensure(model, yes=yes)
    if guide is not None:
        ensure(guide, yes=yes, option="guide")
    if clip is not None:
        ensure(clip, yes=yes, option="clip")
    stages = [] if cascade is None else [name.strip() for name in cascade.split(",")]
    for stage in stages:
        ensure(stage, yes=yes, option="cascade")

    place = Place(*output)
    more = {**sides, **wanted, **guidance}
    sample_to(
        place,
        texts=texts,
        cascade=stages,
        cascade_noise=cascade_noise,
        trajectory=trajectory,
        quiet=quiet,
        **more,
    )
