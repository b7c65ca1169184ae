"""Measure the time a megapixel and the peak memory of large pictures, and the effect of tiles.

    # sr ×2, deblur and inpaint, 1 to 12 megapixels
    python benchmarks/large_pictures.py
    python benchmarks/large_pictures.py --megapixels 12 --memory 4GB

    # largest difference between a result in tiles and of the whole
    python benchmarks/large_pictures.py --overlaps 32 64 96 128 --side 1024

    # the same where four tiles meet
    python benchmarks/large_pictures.py --overlaps 96 --tasks inpaint --tile 640 --hole 48

    # bytes a pixel of the network, and whether batches pay
    python benchmarks/large_pictures.py --network

The picture is examples/parrots.png, continued by mirroring, 4:3. Megapixels are those of the
result. Every restoration is made in a process of its own, so that none sees memory that another
left behind. The peak is by how much the process grew while it restored, without weights and
libraries (on CUDA: what PyTorch had allocated).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore import Restorer
from restore.evaluate.meter import Meter
from restore.photo.photograph import read_photo
from restore.restorer import load_denoiser
from restore.runtime.budget import LARGEST_TILE, network_bytes
from restore.runtime.devices import choose_device, keep_freed_memory
from restore.runtime.tiles import TiledDenoiser
from restore.tasks import Deblurring, Inpainting, SuperResolution, Task

TASKS = ("sr", "deblur", "inpaint")
EXAMPLE = Path(__file__).parent.parent / "examples" / "parrots.png"
# Sides of pictures that go through the network whole, in pixels.
SIDES = (256, 512, 1024)


def picture(height: int, width: int) -> NDArray[np.float32]:
    """Return the example, continued by mirroring: [height, width, 3] in [0, 1]."""
    pixels = np.float32(read_photo(EXAMPLE).pixels[..., :3])
    pixels = pixels / (255 if pixels.max() > 1 else 1)
    more = [
        (0, max(0, size - n)) for size, n in zip((height, width), pixels.shape[:2], strict=True)
    ]
    return np.ascontiguousarray(np.pad(pixels, (*more, (0, 0)), mode="symmetric")[:height, :width])


def problem(
    name: str, height: int, width: int, hole_side: int | None = None
) -> tuple[NDArray[np.float32], Task]:
    """Return a picture and its task, for a result of this size.

    Args:
        name: One of `TASKS`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        hole_side: Side of a hole in the middle, in pixels; None is a twelfth of the picture.
    """
    if name == "sr":
        return picture(height // 2, width // 2), SuperResolution(2.0)
    if name == "deblur":
        return picture(height, width), Deblurring("gaussian:2", noise=0.01)

    hole = np.zeros((height, width), dtype=bool)
    if hole_side is None:
        hole[height // 3 : height // 2, width // 4 : width // 2] = True
    else:
        top = (height - hole_side) // 2
        left = (width - hole_side) // 2
        hole[top : top + hole_side, left : left + hole_side] = True

    return picture(height, width), Inpainting(hole)


def restore_one(arguments: argparse.Namespace) -> None:
    """Restore in this process, and print time and memory as JSON."""
    keep_freed_memory()
    height, width = size_of(arguments.megapixels[0])
    image, task = problem(arguments.one, height, width)
    restorer = Restorer(
        arguments.model, arguments.device, tile=arguments.tile, memory=arguments.memory
    )
    calls = []
    restorer.denoiser.denoise.network.register_forward_hook(
        lambda _, given, __: calls.append(given[0].shape[-2:])
    )
    restorer.denoise(image[:64, :64], 0.1, method="one-step")  # what PyTorch does once only
    calls.clear()

    with Meter(restorer.device) as meter:
        report = restorer.run(task, image, steps=arguments.steps).report

    tile = "x".join(str(n) for n in reversed(calls[0]))
    found = {
        "solver": report.seconds,
        "seconds": meter.seconds,
        "MiB": meter.memory,
        "calls": len(calls),
        "tile": tile,
    }
    print(json.dumps(found))


def by_size(arguments: argparse.Namespace) -> None:
    """Print a table of all tasks and sizes."""
    print(
        f"{arguments.steps} steps, {choose_device(arguments.device)}, {torch.get_num_threads()} "
        "threads\n"
    )
    columns = [
        "task",
        "size",
        "megapixels",
        "tiles a step",
        "s for each megapixel and step",
        "to the first",
    ]
    print("| " + " | ".join([*columns, "peak, MiB", "bytes a pixel"]) + " |")
    print("|---|---|---:|---|---:|---:|---:|---:|")

    for task in arguments.tasks:
        first = None
        for megapixels in arguments.megapixels:
            height, width = size_of(megapixels)
            found = in_own_process(arguments, task, megapixels)
            pixels = height * width
            pace = found["solver"] / (pixels / 1e6) / arguments.steps
            first = first or pace
            memory = (
                "– | –"
                if found["MiB"] is None
                else f"{found['MiB']:.0f} | {found['MiB'] * 2**20 / pixels:.0f}"
            )
            tiles = f"{found['calls'] / arguments.steps:g} of {found['tile']}"
            cells = (
                f"{task} | {width}×{height} | {pixels / 1e6:.1f} | {tiles} | {pace:.2f} | "
                f"{pace / first:.2f}"
            )
            print(f"| {cells} | {memory} |", flush=True)


def in_own_process(arguments: argparse.Namespace, task: str, megapixels: float) -> dict[str, Any]:
    words = ["--one", task, "--megapixels", str(megapixels), "--steps", str(arguments.steps)]
    words += ["--model", arguments.model, "--device", arguments.device]
    words += [] if arguments.memory is None else ["--memory", arguments.memory]
    words += [] if arguments.tile is None else ["--tile", str(arguments.tile)]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )

    return json.loads(done.stdout)


def size_of(megapixels: float) -> tuple[int, int]:
    """Return height and width in the ratio 3:4, both even."""
    half_width = round(math.sqrt(megapixels * 1e6 * 4 / 3) / 2)
    return 2 * round(half_width * 3 / 4), 2 * half_width


def against_whole(arguments: argparse.Namespace) -> None:
    """Print how far results in tiles are from the result of the whole picture."""
    side = arguments.side
    tile = arguments.tile or arguments.side // 2
    steps = arguments.steps
    restorer = Restorer(arguments.model, arguments.device, memory=arguments.memory)

    # bfloat16 rounds differently in every size
    exact = load_denoiser(arguments.model, restorer.device, torch.float32)
    restorer.denoiser = TiledDenoiser(exact)
    print(f"{side}², {steps} steps, float32, tiles of at most {tile}²; in levels of 255\n")
    print(
        "| task | overlap | largest difference | RMS | pixels a step, of the whole "
        "|\n|---|---:|---:|---:|---:|"
    )

    for task in arguments.tasks:
        image, record = problem(task, side, side, arguments.hole)

        # larger than the picture, whose canvas has an unknown border around it
        whole, pixels = result_in_tiles(restorer, record, image, steps, side + 64)
        for overlap in (None, *arguments.overlaps):
            found, seen = result_in_tiles(restorer, record, image, steps, tile, overlap)
            difference = 255 * (found - whole)
            largest = np.abs(difference).max()
            rms = np.sqrt(np.mean(difference**2))
            print(
                f"| {task} | {overlap or 'default'} | {largest:.3f} | {rms:.4f} | "
                f"{seen / pixels:.2f} |",
                flush=True,
            )


def result_in_tiles(
    restorer: Restorer,
    task: Task,
    image: NDArray[np.float32],
    steps: int,
    tile: int,
    overlap: int | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Return the result of a task, and how many pixels went through the network."""
    restorer.denoiser.tile = tile
    restorer.denoiser.overlap = overlap
    seen: list[int] = []
    hook = restorer.denoiser.denoise.network.register_forward_hook(
        lambda _, given, __: seen.append(given[0].shape[-1] * given[0].shape[-2])
    )
    result = restorer.run(task, image, steps=steps).mean
    hook.remove()

    return result, sum(seen)


def measure_network(arguments: argparse.Namespace) -> None:
    """Print the peak memory of a call of the network, and the time of four pictures.

    The four go through the network at once and one by one.
    """
    device = choose_device(arguments.device)
    print("| format | side | bytes a pixel | as expected | s, four one by one | s, four at once |")
    print("|---|---:|---:|---:|---:|---:|")

    for dtype in (torch.bfloat16, torch.float32):
        denoise = load_denoiser(arguments.model, device, dtype)
        expected = network_bytes(denoise.config.backbone, dtype)
        for side in SIDES:
            four = torch.zeros(4, 3, side, side, device=device)
            with torch.inference_mode():
                denoise(four[:1], 1.0)
                with Meter(device) as one:
                    denoise(four[:1], 1.0)
                with Meter(device) as singly:
                    for index in range(len(four)):
                        denoise(four[index : index + 1], 1.0)
                with Meter(device) as together:
                    denoise(four, 1.0)
            per_pixel = "–" if one.memory is None else f"{one.memory * 2**20 / side**2:.0f}"
            times = f"{singly.seconds:.2f} | {together.seconds:.2f}"
            print(
                f"| {str(dtype).removeprefix('torch.')} | {side} | {per_pixel} | {expected:.0f} | "
                f"{times} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--tile", type=int, help=f"side of the tiles; by default what fits, up to {LARGEST_TILE}"
    )
    parser.add_argument("--memory", help="as in 4GB; by default most of what is free")
    parser.add_argument(
        "--overlaps", type=int, nargs="+", help="compare tiles with the whole picture instead"
    )
    parser.add_argument("--side", type=int, default=1024, help="with --overlaps: of the picture")
    parser.add_argument(
        "--hole", type=int, help="with --overlaps: side of a hole in the middle, for inpaint"
    )
    parser.add_argument(
        "--network", action="store_true", help="measure a call of the network instead"
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return restore_one(arguments)
    if arguments.network:
        return measure_network(arguments)

    return (against_whole if arguments.overlaps else by_size)(arguments)


if __name__ == "__main__":
    main()
