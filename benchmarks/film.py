"""Measures how much restored clips flicker.

    python benchmarks/film.py PHOTOGRAPH [--seconds 3] [--only TASK]

A clip is made of one photograph: a crop stays still, and a smaller one moves over its lower part.
It is degraded with new noise in each frame, and restored by `restore TASK clip.mkv`, whose noise is
the same for every frame, and by the same method with a seed of its own for every frame. Prints the
variance over time of the still part, in levels of 255 squared, and the PSNR of all frames in dB.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import cli
from restore.restorer import Restorer
from restore.tasks import Denoising, SuperResolution, Task

RATE = 24
WIDTH = 96
HEIGHT = 72
# Rows of the part that stays still, for a frame of `HEIGHT` rows.
STILL = 34

Frames = NDArray[np.float64]


class Case(NamedTuple):
    """A task that is measured.

    Attributes:
        title: what the table calls it.
        task: the task.
        options: options of the restoration, by their names in Python.
        sigma: standard deviation of the noise in the clip, for pixels in [0, 1].
        scale: factor by which the clip is smaller than the truth.
    """

    title: str
    task: Task
    options: dict[str, Any]
    sigma: float
    scale: int = 1


CASES = {
    "denoise": Case("denoise", Denoising(), {}, 25 / 255),
    "ddrm": Case("denoise, DDRM", Denoising(), {"method": "ddrm", "steps": 2}, 25 / 255),
    "sr": Case(
        "sr, twice, DDRM",
        SuperResolution(2, noise="auto"),
        {"method": "ddrm", "steps": 2},
        5 / 255,
        scale=2,
    ),
}


def film(photo: Image.Image, count: int) -> Frames:
    """Return frames [N, H, W, 3] in [0, 1]: a still crop, on which another one moves."""
    left, top = (photo.width - WIDTH) // 2, (photo.height - HEIGHT) // 2
    still = np.asarray(photo.crop((left, top, left + WIDTH, top + HEIGHT))) / 255
    patch = np.asarray(photo.crop((0, 0, 32, 32))) / 255
    frames = np.repeat(still[None], count, axis=0)
    for index, frame in enumerate(frames):
        place = 2 + 2 * (index * (WIDTH - 36) // (2 * max(1, count - 1)))
        frame[HEIGHT - 36 : HEIGHT - 4, place : place + 32] = patch

    return frames


def degraded(frames: Frames, case: Case) -> NDArray[np.uint8]:
    """Return the frames as the clip has them: smaller, with noise, in 8 bits."""
    random = np.random.default_rng(0)
    small = [
        np.asarray(
            Image.fromarray(np.rint(255 * frame).astype(np.uint8)).resize(
                (WIDTH // case.scale, HEIGHT // case.scale), Image.Resampling.BICUBIC
            )
        )
        for frame in frames
    ]
    noisy = np.stack(small) + random.normal(0, 255 * case.sigma, np.shape(small))
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def write(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """Write a clip without loss."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def read(path: Path) -> Frames:
    """Return the frames of a clip [N, H, W, 3] in [0, 1]."""
    with av.open(str(path)) as container:
        return np.stack(
            [frame.to_ndarray(format="rgb24") / 255 for frame in container.decode(video=0)]
        )


def flicker(frames: Frames) -> float:
    """Return the mean variance over time of the still part, in levels of 255 squared."""
    rows = STILL * frames.shape[1] // HEIGHT
    return float(255**2 * frames[:, :rows].var(axis=0).mean())


def psnr(frames: Frames, truth: Frames) -> float:
    """Return the PSNR of all frames in dB."""
    return float(-10 * np.log10(np.square(frames - truth).mean()))


def enlarged(frames: NDArray[np.uint8], scale: int) -> Frames:
    """Return frames by bicubic interpolation."""
    size = frames.shape[2] * scale, frames.shape[1] * scale
    large = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in frames]
    return np.stack([np.asarray(one) / 255 for one in large])


def with_the_same_noise(clip: Path, case: Case) -> Frames:
    """Return the frames that the command restores."""
    out = clip.with_stem("out")
    words = [case.task.name, str(clip), str(out), "--overwrite", "--quiet"]
    if isinstance(case.task, SuperResolution):
        words += ["--scale", str(case.scale), "--noise", "auto"]
    for name, value in case.options.items():
        words += [f"--{name}", str(value)]
    if code := cli.exit_code(words):
        raise SystemExit(code)
    return read(out)


def with_new_noise(frames: NDArray[np.uint8], case: Case) -> Frames:
    """Return frames restored with a seed of their own each."""
    restorer = Restorer()
    results = [
        restorer.run(case.task, frame, seed=seed, **case.options).mean
        for seed, frame in enumerate(frames)
    ]
    return np.stack(results) / 255


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()

    truth = film(Image.open(options.photograph).convert("RGB"), round(RATE * options.seconds))
    print("| task | | variance over time | PSNR, dB |")
    print("|---|---|---:|---:|")

    for name, case in CASES.items():
        if options.only not in (None, name):
            continue
        frames = degraded(truth, case)
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder, "clip.mkv")
            write(clip, frames)
            results = {
                "input" if case.scale == 1 else "bicubic": enlarged(frames, case.scale),
                "the same noise for every frame": with_the_same_noise(clip, case),
                "new noise for every frame": with_new_noise(frames, case),
            }
        for what, result in results.items():
            row = f"{flicker(result):.2f} | {psnr(result, truth):.2f}"
            print(f"| {case.title} | {what} | {row} |", flush=True)


if __name__ == "__main__":
    main()
