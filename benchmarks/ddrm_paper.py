"""Evaluate DDRM by the protocol of its paper, beside the published figures.

    python benchmarks/ddrm_paper.py --model adm-imagenet256 --data IMAGENET_VAL \\
        --list imagenet_val_1k.txt --out results

The paper is Kawar et al. 2022, arXiv 2201.11793. Pictures are the middle square of each file,
resized to 256 × 256 (bilinear, as Pillow does). The measurement is ``y = A x + σ_y n`` with σ_y 0
and 0.05 for pixels in [0, 1], neither clipped nor rounded. DDRM takes 20 steps uniform in t, η =
0.85, η_b = 1, from t = 950, and returns the network's last estimate, as published. The paper takes
the 1000 pictures of ImageNet that github.com/XingangPan/deep-generative-prior lists, and ADM's
unconditional network.

``--degradations reference`` is what the published code does, with its faults (`operators.reference`
lists them: blurs lose a tap, their singular values meet the wrong components, small ones are cut);
``named`` is what the degradations are called. They differ in the blurs, in bicubic downsampling and
in the weights of grey. Block averages and lost pixels are the same, but the published code loses
the same pixels of all pictures.

Each picture is a line of OUT/results.jsonl, and an interrupted run continues; OUT/results.md is the
table. LPIPS needs AlexNet's weights, named in the environment variable RESTORE_LPIPS_TRUNK. The
paper also gives KID, which this script does not: --pictures writes truth and result in 8 bits for
other tools.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import operators
from operators import Shape, SpectralOperator, ddrm_reference
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.schedule import noise_levels
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError, Unavailable
from restore.metrics.quality import consistency, load_lpips, psnr, ssim
from restore.photo.photograph import SUFFIXES
from restore.restorer import load_denoiser, model_digest
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype, synchronize
from restore.solvers import ddrm

ETA = 0.85
ETA_B = 1.0
STEPS = 20
SIDE = 256
NOISES = (0.0, 0.05)


@dataclass(frozen=True)
class Problem:
    """A degradation of the paper.

    Attributes:
        about: Name in the table.
        reference: Name for `operators.ddrm_reference`; empty where the published code does what the
            name says.
        named: Makes the operator that the name says, for a picture's shape and a seed.
        published: PSNR in dB of the paper's tables 1 and 2 (DDRM, ImageNet 1K, 256 × 256) by σ_y.
        baseline: The same of the pictures before restoration.
    """

    about: str
    reference: str
    named: Callable[[Shape, int], SpectralOperator]
    published: dict[float, float]
    baseline: dict[float, float]

    def operator(self, kind: str, shape: Shape, seed: int) -> SpectralOperator:
        if kind == "named" or not self.reference:
            return self.named(shape, seed)
        blur = self.reference.startswith("deblur")
        return ddrm_reference(self.reference, shape, mixed_spectrum=blur, seed=seed)


def _text(text: str) -> Callable[[Shape, int], SpectralOperator]:
    """Return a maker of an operator written as text, in which ``SEED`` is the picture's seed."""
    return lambda shape, seed: operators.parse(text.replace("SEED", str(seed))).operator(shape)


def _gaussian(sigmas: tuple[float, float], radius: int) -> Callable[[Shape, int], SpectralOperator]:
    """Return a maker of a separable Gaussian blur of (2 radius + 1)² taps.

    Args:
        sigmas: Standard deviations along the height and the width.
        radius: Half of the kernel's side, rounded down.
    """

    def build(shape: Shape, seed: int) -> SpectralOperator:
        taps = [np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) for sigma in sigmas]
        rows, columns = (
            operators.blur_matrix(n, t / t.sum(), "zero")
            for n, t in zip(shape[1:], taps, strict=True)
        )
        return operators.AxesOperator(shape, None, rows, columns)

    return build


PROBLEMS = {
    "sr4": Problem(
        "×4, block average",
        "sr_averagepooling:4",
        _text("down:area:4"),
        {0: 26.55, 0.05: 25.21},
        {0: 25.65},
    ),
    "sr8": Problem("×8, block average", "sr_averagepooling:8", _text("down:area:8"), {}, {}),
    "sr16": Problem("×16, block average", "sr_averagepooling:16", _text("down:area:16"), {}, {}),
    "sr4-bicubic": Problem("×4, bicubic", "sr_bicubic:4", _text("down:bicubic:4"), {}, {}),
    "sr8-bicubic": Problem("×8, bicubic", "sr_bicubic:8", _text("down:bicubic:8"), {}, {}),
    "sr16-bicubic": Problem("×16, bicubic", "sr_bicubic:16", _text("down:bicubic:16"), {}, {}),
    "deblur-uniform": Problem(
        "blur, uniform 9×9",
        "deblur_uni",
        _text("blur:box:9:boundary=zero"),
        {0: 35.64, 0.05: 25.45},
        {0: 19.26},
    ),
    "deblur-gaussian": Problem(
        "blur, Gaussian 5×5, σ 10", "deblur_gauss", _gaussian((10, 10), 2), {}, {}
    ),
    "deblur-anisotropic": Problem(
        "blur, Gaussian 9×9, σ 1 and 20", "deblur_aniso", _gaussian((1, 20), 4), {}, {}
    ),
    "colorize": Problem("colourising", "color", _text("gray"), {}, {}),
    "inpaint-random": Problem(
        "half of the pixels lost", "inp_random:0.5", _text("mask:random:0.5:seed=SEED"), {}, {}
    ),
}
# Name of the problem whose mask comes from a file.
TEXT = "inpaint-text"


def with_text_mask(path: Path, side: int) -> Problem:
    """Return the problem of pixels lost under a text.

    Args:
        path: A picture, white where pixels are lost, or an array of the published code, 0 where
            they are lost.
        side: Side that the mask must have, in pixels.

    Raises:
        BadArgument: The mask has another side, or no lost or no known pixel.
    """
    if path.suffix == ".npy":
        lost = np.load(path, allow_pickle=False).reshape(-1) == 0
        lost = lost.reshape(math.isqrt(lost.size), -1)
    else:
        lost = np.asarray(Image.open(path).convert("L")) > 127

    if lost.shape != (side, side) or lost.all() or not lost.any():
        raise BadArgument(
            f"--text-mask {path}: must be {side}x{side} pixels, some of them lost and some not"
        )

    known = torch.from_numpy(~lost)

    return Problem(
        f"text over it ({path.name})", "", lambda shape, seed: operators.Mask(shape, known), {}, {}
    )


def prepared(path: Path, side: int) -> Tensor:
    """Read the middle square of a picture, resized: [1, 3, side, side] in [0, 1]."""
    with Image.open(path) as image:
        picture = image.convert("RGB")

    short = min(picture.size)
    left, top = (round((length - short) / 2) for length in picture.size)
    picture = picture.crop((left, top, left + short, top + short)).resize(
        (side, side), Image.Resampling.BILINEAR
    )

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def seed_of(name: str, seed: int) -> int:
    """Return the random seed for a picture's noise, mask and sampler."""
    return zlib.crc32(f"{seed}:{name}".encode(errors="surrogateescape"))


def restored(
    denoise: Denoiser,
    operator: SpectralOperator,
    y: Tensor,
    noise: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Restore a picture by DDRM.

    Args:
        y: Measurement of pixels in [0, 1].
        noise: Its σ_y, for pixels in [0, 1].

    Returns:
        [1, 3, H, W] in [0, 1].
    """
    offset = operator.A(y.new_ones(len(y), *operator.input_shape))
    levels = noise_levels(denoise.schedule, steps, "uniform")
    x = ddrm(
        denoise,
        operator,
        2 * y - offset,
        2 * noise,
        levels,
        generator=generator,
        eta=ETA,
        eta_b=ETA_B,
    )

    return ((x + 1) / 2).clamp(0, 1)


def before(operator: SpectralOperator, y: Tensor) -> Tensor | None:
    """Return the paper's baseline, y enlarged bicubically.

    It is None where y has other channels than a picture, or holes.
    """
    if y.shape[1] != operator.input_shape[0] or isinstance(operator, operators.Mask):
        return None
    size = tuple(operator.input_shape[1:])
    return (
        y if tuple(y.shape[-2:]) == size else F.interpolate(y, size=size, mode="bicubic")
    ).clamp(0, 1)


Lpips = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Run:
    """Settings that all pictures of a run share.

    Attributes:
        denoise: The model.
        device: Where the solver works.
        arguments: Options of the command.
        lpips: Distance of two pictures; None without its weights.
    """

    denoise: Denoiser
    device: torch.device
    arguments: argparse.Namespace
    lpips: Lpips | None

    @property
    def made_by(self) -> dict[str, Any]:
        """Settings in which a result of an earlier run must agree to count as done."""
        a = self.arguments
        return {
            "model": a.digest,
            "degradations": a.degradations,
            "side": a.side,
            "steps": a.steps,
            "seed": a.seed,
        }

    def one(self, problem: str, noise: float, path: Path, name: str) -> dict[str, Any]:
        """Degrade and restore a picture; return its line of results."""
        a = self.arguments
        truth = prepared(path, self.arguments.side)
        seed = seed_of(name, a.seed)
        operator = a.problems[problem].operator(a.degradations, tuple(truth.shape[1:]), seed)
        generator = torch.Generator().manual_seed(seed)
        y = operator.A(truth)
        y = y + noise * torch.randn(y.shape, generator=generator)
        started = time.perf_counter()

        with torch.inference_mode():
            operator = operator.to(self.device)
            seen = y.to(self.device)
            x = restored(self.denoise, operator, seen, noise, a.steps, generator)
            synchronize(self.device)
            seconds = time.perf_counter() - started
            shown = before(operator, seen)
            explained = consistency(operator, x, seen)

        x = x.cpu()
        if a.pictures:
            _write(a.out / f"{problem}-{noise:g}" / Path(name).with_suffix(""), truth, x)

        return {
            "problem": problem,
            "noise": noise,
            "picture": name,
            **self.made_by,
            "psnr": float(psnr(x, truth)),
            "ssim": float(ssim(x, truth)),
            "lpips": None if self.lpips is None else float(self.lpips(x, truth)),
            "baseline_psnr": None if shown is None else float(psnr(shown.cpu(), truth)),
            "consistency": float(explained.square().mean().sqrt()),
            "seconds": seconds,
        }


def _write(stem: Path, truth: Tensor, result: Tensor) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, picture in (("truth", truth), ("result", result)):
        pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(stem.parent / f"{stem.name}.{kind}.png")


def done_before(
    file: Path, made_by: dict[str, Any]
) -> dict[tuple[str, float, str], dict[str, Any]]:
    """Read the lines of a file that were made with the same settings.

    A last line that a killed run broke off is left out.
    """
    found = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if {key: entry.get(key) for key in made_by} == made_by:
            found[entry["problem"], entry["noise"], entry["picture"]] = entry

    return found


def pictures(data: Path, names: Path | None, count: int | None) -> list[tuple[str, Path]]:
    """Return name and file of each picture, in the order of the list, or of the names.

    Raises:
        FileAccess: There is no folder or no list, or a picture of the list is missing.
        NothingToDo: There is no picture.
    """
    if not data.is_dir():
        raise FileAccess(f"--data {data}: no such folder")

    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = {path.relative_to(data).as_posix(): path for path in files}
    if names is not None:
        if not names.is_file():
            raise FileAccess(f"--list {names}: no such file")
        wanted = [line.split()[0] for line in names.read_text().splitlines() if line.strip()]
        found |= {
            name.removesuffix(path.suffix): path for name, path in found.items()
        }  # lists often leave it out
        if missing := [name for name in wanted if name not in found]:
            raise FileAccess(
                f"--list {names}: {len(missing)} pictures are not in {data}, as {missing[0]}"
            )
        found = {name: found[name] for name in wanted}

    if not found:
        raise NothingToDo(f"--data {data}: no picture in this folder")

    return list(found.items())[:count]


def table(entries: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> Iterator[str]:
    """Return a table of the means over the pictures, beside the published ones."""
    name = Path(arguments.model).stem
    how = f"{arguments.steps} steps, η {ETA}, η_b {ETA_B:g}, degradations: {arguments.degradations}"
    yield f"DDRM's protocol, {name}, {how}."
    yield (
        "Published: Kawar et al. 2022, tables 1 and 2, DDRM on ImageNet 1K (1000 pictures of 256 "
        "× 256)."
    )
    yield ""
    yield (
        "| problem | σ_y | pictures | before: PSNR | published | PSNR | published | SSIM | LPIPS "
        "| A x − y | s |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"

    for key, problem in arguments.problems.items():
        for noise in arguments.noise:
            rows = [
                entry for entry in entries if (entry["problem"], entry["noise"]) == (key, noise)
            ]
            if rows:
                mean = partial(_mean, rows)
                yield (
                    f"| {problem.about} | {noise:g} | {len(rows)} | {mean('baseline_psnr', '.2f')} "
                    f"| {_number(problem.baseline.get(noise))} | {mean('psnr', '.2f')} | "
                    f"{_number(problem.published.get(noise))} | {mean('ssim', '.3f')} | "
                    f"{mean('lpips', '.3f')} | {mean('consistency', '.5f')} | "
                    f"{mean('seconds', '.2f')} |"
                )


def _mean(rows: Sequence[dict[str, Any]], key: str, style: str) -> str:
    values = [row[key] for row in rows]
    return "" if None in values else f"{np.mean(values):{style}}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _lpips() -> Lpips | None:
    try:
        return load_lpips()
    except Unavailable as error:
        print(f"The column LPIPS stays empty. {error}", file=sys.stderr)
        return None


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="as of the restore command")
    parser.add_argument("--data", type=Path, required=True, help="a folder of pictures")
    parser.add_argument(
        "--list", type=Path, help="of the pictures to take, the first word of each line"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ddrm-paper"),
        help="folder of results.jsonl and results.md",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*PROBLEMS, TEXT],
        metavar="PROBLEM",
        help=f"of {', '.join(PROBLEMS)}",
    )
    parser.add_argument(
        "--noise", nargs="+", type=float, default=list(NOISES), help="σ_y for pixels in [0, 1]"
    )
    parser.add_argument(
        "--text-mask", type=Path, help=f"adds {TEXT}: a picture, white = lost, or a .npy, 0 = lost"
    )
    parser.add_argument("--degradations", choices=["reference", "named"], default="reference")
    parser.add_argument("--side", type=int, default=SIDE, help="of the pictures")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--count", type=int, help="of pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", action="store_true", help="write truth and result as PNG")
    parser.add_argument("--device", default="auto")

    return parser.parse_args(words)


def work(arguments: argparse.Namespace) -> str:
    """Restore all pictures that are not done yet, and write the table."""
    arguments.problems = dict(PROBLEMS)
    if arguments.text_mask is not None:
        arguments.problems[TEXT] = with_text_mask(arguments.text_mask, arguments.side)
    elif arguments.only and TEXT in arguments.only:
        raise BadArgument(f"--only {TEXT}: needs --text-mask")

    if arguments.only:
        arguments.problems = {name: arguments.problems[name] for name in arguments.only}

    chosen = pictures(arguments.data, arguments.list, arguments.count)
    device = choose_device(arguments.device)
    denoise = load_denoiser(arguments.model, device, network_dtype(device))
    arguments.digest = model_digest(arguments.model)
    run = Run(denoise, device, arguments, _lpips())
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.jsonl"
    known = done_before(file, run.made_by)
    entries = []
    if file.exists() and not file.read_bytes().endswith(b"\n"):  # a killed run's last line
        file.write_bytes(file.read_bytes() + b"\n")

    with file.open("a") as lines:
        for problem in arguments.problems:
            for noise in arguments.noise:
                for name, path in chosen:
                    if (entry := known.get((problem, noise, name))) is None:
                        entry = run.one(problem, noise, path, name)
                        lines.write(json.dumps(entry) + "\n")
                        lines.flush()
                        print(
                            f"{problem} {noise:g} {name}: {entry['psnr']:.2f} dB, "
                            f"{entry['seconds']:.1f} s",
                            file=sys.stderr,
                        )
                    entries.append(entry)

    text = "\n".join(table(entries, arguments)) + "\n"
    (arguments.out / "results.md").write_text(text)

    return text


def main(words: Sequence[str] | None = None) -> int:
    keep_freed_memory()
    try:
        print(work(parse(words)))
    except RestoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code

    return 0


if __name__ == "__main__":
    sys.exit(main())
