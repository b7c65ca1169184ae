"""Measure what the methods cost beyond the network, what bfloat16 costs in PSNR, and allocators.

    # restorations against the calls of the network in them
    python benchmarks/overhead.py --size 512 --rounds 3

    # PSNR with float32 and with bfloat16
    python benchmarks/overhead.py --bf16 DATA_FOLDER

    # the network with freed memory kept, and returned
    python benchmarks/overhead.py --allocator --size 1024

Restorations go from array to array as users call them, with operators, conversions and noise.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from large_pictures import picture
from numpy.typing import NDArray
from problems import PROBLEMS, load_pictures, to_tensor

from restore import Restorer
from restore.metrics.quality import psnr
from restore.restorer import load_denoiser
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype, synchronize
from restore.tasks import Deblurring, Inpainting, SuperResolution, Task

# Problem and method for the comparison of number formats.
PRECISION_RUNS = (("sr4", "one-step"), ("deblur-gaussian", "diffpir"), ("denoise-25", "one-step"))


def problems(size: int) -> dict[str, tuple[NDArray[np.float32], Task]]:
    """Return pictures and tasks whose result has this side, by name."""
    half, quarter = (picture(size // factor, size // factor) for factor in (2, 4))
    whole = picture(size, size)
    hole = np.zeros((size, size), dtype=bool)
    hole[size // 3 : size // 2, size // 4 : size // 2] = True

    return {
        "sr4": (quarter, SuperResolution(4.0)),
        "sr4-noisy": (quarter, SuperResolution(4.0, noise=0.05)),
        "sr2": (half, SuperResolution(2.0)),
        "inpaint": (whole, Inpainting(hole)),
        "inpaint-noisy": (whole, Inpainting(hole, noise=0.02)),
        "deblur": (whole, Deblurring("gaussian:2", noise=0.0)),
        "deblur-noisy": (whole, Deblurring("gaussian:2", noise=0.01)),
        "deblur-motion": (whole, Deblurring("motion:15:30", noise=0.01)),
    }


class Stopwatch:
    """Counts the calls of networks, and the time in them.

    Args:
        device: Device of the networks.
        networks: The networks.
    """

    def __init__(self, device: torch.device, *networks: torch.nn.Module) -> None:
        self.device = device
        self.seconds = 0.0
        self.calls = 0
        for network in networks:
            network.register_forward_pre_hook(self._begin)
            network.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        synchronize(self.device)
        self._started = time.perf_counter()

    def _end(self, *_: object) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._started
        self.calls += 1


def compare_solvers(arguments: argparse.Namespace) -> None:
    """Print what restorations take beside the calls of their networks, from array to array.

    Both times come from the same run, so that a machine's varying speed falls on both.
    """
    keep_freed_memory()  # as the command does
    restorer = Restorer(arguments.model, arguments.device)
    watch = Stopwatch(restorer.device, *networks(restorer))
    chosen = arguments.problems or list(problems(64))
    small, posed = problems(64), problems(arguments.size)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    described = {}

    for index in range(-1, arguments.rounds):
        for name in chosen:
            image, task = (small if index < 0 else posed)[name]  # the first is a warm-up
            watch.seconds, watch.calls = 0.0, 0
            started = time.perf_counter()
            report = restorer.run(task, image, steps=arguments.steps).report
            synchronize(restorer.device)
            beside = time.perf_counter() - started - watch.seconds
            if index >= 0:
                found[name].append((watch.seconds, beside))
                described[name] = f"{report.method} | {watch.calls}"
                say(f"{name}: {watch.seconds:.2f} s in calls, {beside:.3f} beside them")

    size = arguments.size
    print(
        f"{size}×{size}, {restorer.device}, {restorer.dtype}, {torch.get_num_threads()} threads, "
        f"medians of {arguments.rounds} rounds\n\n"
        "| problem | method | calls | seconds in calls | beside them | % |\n"
        "|---|---|---:|---:|---:|---:|"
    )
    for name, times in found.items():
        inside, beside = (statistics.median(column) for column in zip(*times, strict=True))
        share = statistics.median(other / calls for calls, other in times)
        print(f"| {name} | {described[name]} | {inside:.2f} | {beside:.3f} | {100 * share:.1f} |")


def networks(restorer: Restorer) -> list[torch.nn.Module]:
    """Return the networks of a model: the denoiser's and the predictor's."""
    denoiser = restorer.denoiser.denoise
    predictor = denoiser.predictor
    return [denoiser.network, *([] if predictor is None else [predictor.network])]


def compare_precision(arguments: argparse.Namespace) -> None:
    """Print the mean PSNR with the network in float32 and in bfloat16."""
    pictures = load_pictures(arguments.bf16, arguments.crop, arguments.count)
    restorers = {}
    for dtype in (torch.float32, torch.bfloat16):
        restorer = restorers[dtype] = Restorer(arguments.model, arguments.device)
        restorer.denoiser = load_denoiser(arguments.model, restorer.device, dtype)
        restorer.dtype = dtype

    device = restorers[torch.float32].device
    crop = f"top-left {arguments.crop}×{arguments.crop}" if arguments.crop else "whole"
    print(
        f"{len(pictures)} pictures of `{arguments.bf16.resolve().name}`, {crop}, {device}; PSNR in "
        "dB, means\n"
    )
    print(
        "| task, method | float32 | bfloat16 | difference | worst picture "
        "|\n|---|---:|---:|---:|---:|"
    )

    for problem, method in PRECISION_RUNS:
        found = {dtype: [] for dtype in restorers}
        for name, truth in pictures.items():
            case = PROBLEMS[problem].degrade(name, truth)
            for dtype, restorer in restorers.items():
                result = restorer.run(case.task, case.file, method=method).mean
                estimate = to_tensor(np.float32(result) / 255)
                found[dtype].append(float(psnr(estimate, case.truth)))
            say(
                f"{problem} {name}: "
                + ", ".join(f"{values[-1]:.3f} dB" for values in found.values())
            )
        full, half = (np.array(values) for values in found.values())
        cells = [full.mean(), half.mean(), (half - full).mean(), (half - full).min()]
        print(
            f"| {problem}, {method} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |",
            flush=True,
        )


def compare_allocators(arguments: argparse.Namespace) -> None:
    """Time a call of the network with freed memory kept between calls and returned.

    Each call is in a process of its own.
    """
    seconds: dict[str, list[float]] = {"kept": [], "returned": []}
    for _ in range(arguments.rounds):
        for name, times in seconds.items():
            command = [sys.executable, __file__, "--call", name, "--size", str(arguments.size)]
            times.append(
                float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            )

    ratio = statistics.median(
        a / b for a, b in zip(seconds["kept"], seconds["returned"], strict=True)
    )
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"{arguments.size}²: {medians['kept']:.2f} s kept, {medians['returned']:.2f} s returned, "
        f"ratio {ratio:.2f}"
    )


def one_call(arguments: argparse.Namespace) -> None:
    """Print the seconds of the second call of the network."""
    if arguments.call == "kept":
        keep_freed_memory()

    device = choose_device(arguments.device)
    denoiser = load_denoiser(arguments.model, device, network_dtype(device))
    picture = torch.randn(1, 3, arguments.size, arguments.size)

    with torch.inference_mode():
        denoiser(picture, 1.0)
        started = time.perf_counter()
        denoiser(picture, 1.0)

    print(time.perf_counter() - started)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="side of the picture that is timed")
    parser.add_argument("--steps", type=int, help="default: those of each method")
    parser.add_argument("--problems", nargs="+", choices=list(problems(64)), help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--bf16", type=Path, metavar="DATA_FOLDER", help="compare number formats instead"
    )
    parser.add_argument(
        "--crop", type=int, default=256, help="with --bf16: side of the crop; 0 is all"
    )
    parser.add_argument("--count", type=int, help="with --bf16: only the first pictures")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--allocator", action="store_true", help="compare memory kept and returned instead"
    )
    parser.add_argument("--call", choices=("kept", "returned"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.call:
        return one_call(arguments)
    if arguments.allocator:
        return compare_allocators(arguments)

    return (compare_precision if arguments.bf16 else compare_solvers)(arguments)


if __name__ == "__main__":
    main()
