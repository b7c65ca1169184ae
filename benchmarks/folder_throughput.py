"""Compare the time of a folder run with single runs and with bare calls of the network.

    python benchmarks/folder_throughput.py KODAK [--count 200] [--side 96] [--singles 5] \\
        [--batch 1 16] [--ray]

Every picture is enlarged twice with the defaults of the command. The bare network is called as
often, on pictures of the size of the result. Single runs are processes, of which some are timed;
the folder's time includes reading, writing and the manifest, without and with the start of the
process. The folder is restored as many pictures at once as suits the device, and with ``--batch``
also by so many.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

import cli
from restore import Restorer
from restore.jobs.ray_engine import Cluster
from restore.jobs.request import Request
from restore.jobs.run import Run
from restore.jobs.walk import pictures_in
from restore.methods.options import Knowledge
from restore.methods.settings import settings_for
from restore.photo.photograph import SUFFIXES
from restore.runtime.devices import keep_freed_memory
from restore.tasks import KINDS, SuperResolution

SCALE = 2


def crops(folder: Path, target: Path, count: int, side: int) -> None:
    """Write ``count`` square crops of the pictures of a folder."""
    target.mkdir()
    pictures = [Image.open(path).convert("RGB") for path in pictures_in(folder, SUFFIXES)]
    for index in range(count):
        picture = pictures[index % len(pictures)]
        left = 37 * index % (picture.width - side)
        top = 53 * index % (picture.height - side)
        picture.crop((left, top, left + side, top + side)).save(target / f"{index:04}.png")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare_network(count: int, side: int) -> float:
    """Return the seconds of the denoiser's calls alone, without the predictor's."""
    restorer = Restorer()
    predictor = restorer.denoiser.predictor is not None
    _, settings = settings_for(KINDS["sr"], known=Knowledge(predictor=predictor))
    x = torch.rand(1, 3, SCALE * side, SCALE * side, device=restorer.device) * 2 - 1

    def call() -> None:
        for _ in range(count * settings.steps):
            restorer.denoiser(x, 0.5)

    with torch.inference_mode():
        restorer.denoiser(x, 0.5)
        return timed(call)


def folder_run(
    source: Path, target: Path, cluster: Cluster | None = None, batch: int | None = None
) -> float:
    """Return the seconds of a run in this process, with the model loaded."""
    task = SuperResolution(SCALE)
    run = Run(Request(task, source, target, quiet=True, cluster=cluster, batch=batch))
    if cluster is None:
        run.restorer.denoise(torch.rand(3, 16, 16), 0.1)
    return timed(run.go)


def command(*words: object) -> None:
    subprocess.run(
        [sys.executable, cli.__file__, *map(str, words)], check=True, capture_output=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--singles", type=int, default=5, help="processes that are timed")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[], help="also so many pictures together"
    )
    parser.add_argument(
        "--ray", action="store_true", help="also by Ray on this machine, its start included"
    )
    arguments = parser.parse_args()
    keep_freed_memory()

    with TemporaryDirectory() as place:
        source = Path(place, "in")
        out = Path(place, "out")
        crops(arguments.folder, source, arguments.count, arguments.side)
        bare = bare_network(arguments.count, arguments.side)
        rows = {"bare network": bare, "folder, in the process": folder_run(source, out)}
        for batch in arguments.batch:
            together = folder_run(source, Path(place, f"together-{batch}"), batch=batch)
            rows[f"folder, in the process, --batch {batch}"] = together
        process = timed(lambda: command("sr", source, Path(place, "process"), "--scale", SCALE))
        rows["folder, a process"] = process
        files = sorted(source.iterdir())[: arguments.singles]
        alone = timed(
            lambda: [
                command("sr", f, Path(place, f"alone-{f.name}"), "--scale", SCALE) for f in files
            ]
        )
        rows[f"single processes, from {len(files)}"] = alone / len(files) * arguments.count
        if arguments.ray:
            threads = float(torch.get_num_threads())
            rows["folder, Ray on this machine"] = folder_run(
                source, Path(place, "ray"), Cluster(cpus=threads)
            )

    print("| | seconds | times the bare network |\n|---|---:|---:|")

    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.1f} | {seconds / bare:.2f} |")


if __name__ == "__main__":
    main()
