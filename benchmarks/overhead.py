"""Measure what the methods cost beyond the network, what bfloat16 costs in PSNR, and allocators.

    # DDRM against as many bare calls of the network
    python benchmarks/overhead.py

    # PSNR with float32 and with bfloat16
    python benchmarks/overhead.py --bf16 DATA_FOLDER

    # the network with freed memory kept, and returned
    python benchmarks/overhead.py --allocator --size 1024

Times are medians of rounds in which the candidates take turns, so that a machine's varying speed
falls on all of them; the ratio is the median of the rounds' own. Operators are made beforehand
(benchmarks/operator_costs.py times that).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from problems import PROBLEMS, load_pictures, to_tensor
from torch import Tensor

import operators
from operators import AxesOperator
from restore import Restorer
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.schedule import noise_levels
from restore.metrics.quality import psnr
from restore.restorer import load_denoiser
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype, synchronize
from restore.solvers import ddrm

# Degradations: standard deviation of the blur in pixels, scale factor, standard deviation of the
# noise in [-1, 1].
SIGMA = 2.0
FACTOR = 4
NOISE = 0.02

# Problem and method for the comparison of number formats.
PRECISION_RUNS = (("sr4", "one-step"), ("deblur-gaussian", "diffpir"), ("denoise-25", "one-step"))


def degradations(size: int) -> dict[str, AxesOperator]:
    blur = operators.gaussian_blur((3, size, size), SIGMA)
    return {
        f"ddrm, blur and x{FACTOR}": operators.downsample(blur.output_shape, FACTOR) @ blur,
        "ddrm, blur": blur,
    }


def bare_calls(denoiser: Denoiser, size: int, steps: int) -> Callable[[], None]:
    """Return a function that calls the network alone, with the input that the denoiser gives it."""
    inputs: list[tuple[Tensor, ...]] = []
    hook = denoiser.network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments))
    denoiser(torch.zeros(1, 3, size, size, device=denoiser.device), 1.0)
    hook.remove()

    def run() -> None:
        for _ in range(steps):
            denoiser.network(*inputs[0])

    return run


def solver_run(denoiser: Denoiser, operator: AxesOperator, steps: int) -> Callable[[], None]:
    """Return a function that runs DDRM as users do, with its preparation and its noise."""
    device = denoiser.device
    operator = operator.to(device)
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, *operator.input_shape, generator=generator).to(device) * 2 - 1
    measurement = operator.A(picture)
    sigmas = noise_levels(denoiser.schedule, steps)

    def run() -> None:
        ddrm(denoiser, operator, measurement, NOISE, sigmas, generator=generator)

    return run


def interleaved(
    candidates: dict[str, Callable[[], None]], rounds: int, device: torch.device
) -> list[dict[str, float]]:
    """Time each candidate in each round, in seconds; every other round goes backwards."""
    times = []
    for index in range(rounds):
        order = list(candidates) if index % 2 == 0 else list(reversed(candidates))
        times.append({name: seconds(candidates[name], device) for name in order})
        say(
            f"round {index + 1}/{rounds}: "
            + ", ".join(f"{n} {t:.2f} s" for n, t in times[-1].items())
        )

    return times


def seconds(function: Callable[[], None], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started


def compare_solvers(arguments: argparse.Namespace) -> None:
    """Print DDRM's time over that of its network calls."""
    device = choose_device(arguments.device)
    dtype = network_dtype(device)
    denoiser = load_denoiser(arguments.model, device, dtype)
    size = arguments.size
    steps = arguments.steps
    bare = "network alone"
    candidates = {bare: bare_calls(denoiser, size, steps)}
    candidates |= {
        name: solver_run(denoiser, operator, steps) for name, operator in degradations(size).items()
    }

    with torch.inference_mode():
        denoiser(torch.zeros(1, 3, size, size, device=device), 1.0)  # warm-up
        times = interleaved(candidates, arguments.rounds, device)

    print(
        f"{steps} steps at {size}×{size}, {device}, {dtype}, {torch.get_num_threads()} threads, ",
        end="",
    )
    print(
        f"medians of {arguments.rounds} rounds\n\n| | seconds | times the network alone "
        "|\n|---|---:|---:|"
    )

    for name in candidates:
        ratio = statistics.median(of_round[name] / of_round[bare] for of_round in times)
        print(
            f"| {name} | {statistics.median(of_round[name] for of_round in times):.3f} | "
            f"{ratio:.3f} |"
        )


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
        for name, picture in pictures.items():
            case = PROBLEMS[problem].degrade(name, picture)
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
    parser.add_argument("--steps", type=int, default=20)
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
