"""Measure the seconds of the network and of every task's defaults on this machine's device.

    python benchmarks/times.py [--device cuda] [--model default] [--megapixels 12]

Times are medians of three runs after a first one, with the model loaded, without reading and
writing files. The last rows are large pictures, once each, in 10 steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from large_pictures import TASKS, picture, problem, size_of

from restore import Restorer
from restore.runtime.devices import (
    begin_peak_memory,
    device_name,
    keep_freed_memory,
    peak_memory,
    synchronize,
)

HEIGHT = 512
WIDTH = 768
# Batch, height and width of the network's inputs.
SIZES = ((1, 256, 256), (16, 256, 256), (1, 512, 768), (1, 1024, 1024), (1, 2048, 2048))


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the median time of a function, after one run that is not timed."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)

    return statistics.median(times[1:])


def measure_network(restorer: Restorer) -> None:
    network = restorer.denoiser.denoise.network
    device = restorer.device
    channels = network.config.in_channels
    print(
        "| pictures | size | ms a call of the network | megapixels a second |\n|---:|---|---:|---:|"
    )

    for batch, height, width in SIZES:
        x = torch.randn(batch, channels, height, width, device=device)
        t = torch.full((batch,), 300.0, device=device)
        with torch.inference_mode():
            took = seconds(lambda x=x, t=t: network(x, t), device)
        speed = batch * height * width / took / 1e6
        print(f"| {batch} | {width}×{height} | {1e3 * took:.1f} | {speed:.1f} |", flush=True)


def measure_tasks(restorer: Restorer) -> None:
    whole = picture(HEIGHT, WIDTH)
    small = picture(HEIGHT // 4, WIDTH // 4)
    blurred, deblurring = problem("deblur", HEIGHT, WIDTH)
    image, inpainting = problem("inpaint", HEIGHT, WIDTH)
    runs: dict[str, Callable[[], object]] = {
        "sr ×4": lambda: restorer.sr(small, 4),
        "sr ×4, one step": lambda: restorer.sr(small, 4, method="one-step"),
        "deblur": lambda: restorer.run(deblurring, blurred),
        "inpaint": lambda: restorer.run(inpainting, image),
        "denoise": lambda: restorer.denoise(whole, 0.1),
        "colorize": lambda: restorer.colorize(whole),
    }
    print(f"\n| task, {WIDTH}×{HEIGHT} | s |\n|---|---:|")

    for name, run in runs.items():
        print(f"| {name} | {seconds(run, restorer.device):.3f} |", flush=True)


def measure_large(restorer: Restorer, megapixels: float) -> None:
    height, width = size_of(megapixels)
    print(f"\n| task, {width}×{height}, 10 steps | s | peak on the device, GiB |\n|---|---:|---:|")
    for name in TASKS:
        image, task = problem(name, height, width)
        known = begin_peak_memory(restorer.device)
        start = time.perf_counter()
        restorer.run(task, image, steps=10)
        took = time.perf_counter() - start
        peak = f"{peak_memory(restorer.device) / 2**30:.2f}" if known else ""
        print(f"| {name} | {took:.2f} | {peak} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="default")
    parser.add_argument(
        "--megapixels", type=float, default=0, help="of the large pictures; 0 leaves them out"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    restorer = Restorer(arguments.model, arguments.device)
    print(f"{device_name(restorer.device)}, {restorer.dtype}, {torch.get_num_threads()} threads\n")
    measure_network(restorer)
    measure_tasks(restorer)
    if arguments.megapixels:
        measure_large(restorer, arguments.megapixels)


if __name__ == "__main__":
    main()
