"""Measure what the training data costs, beside the training step of the default network.

    python benchmarks/training_data.py DATA_FOLDER [--cache FOLDER]
    python benchmarks/training_data.py DATA_FOLDER --both [--device cuda] [--predictor]

The batches are made on one thread; the steps run on all that PyTorch has (``OMP_NUM_THREADS``). A
step is forward, backward and AdamW, with autocast to bfloat16 where the machine multiplies it, in
channels-last. Both take turns in every round; the ratio is the median of the rounds' own. The last
rows are steps that are fed by `Batches.stream`: their time beyond the bare step is the real cost of
the data.

With ``--both`` the host's batches (`Batches`) are compared with those made on a device
(`DeviceBatches`): pixels a second, the cost for a training step there, and for every degradation
the mean and the standard deviation over pictures of the RMS error of what is shown, of the known
fraction and, with ``--predictor``, of the noise level.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import pretrained
from restore.backbone import build_backbone
from restore.diffusion.denoiser import ModelConfig
from restore.runtime.devices import HOST, choose_device, device_name, network_dtype, synchronize
from restore.training.batches import Batch, Batches, PredictorData
from restore.training.device_batches import DeviceBatches
from restore.training.device_pictures import DevicePictures
from restore.training.mixture import Mixture
from restore.training.pictures import Pictures
from restore.training.run import BatchSource


def training_step(device: torch.device = HOST) -> Callable[[Batch], None]:
    """Return a function that takes a step of the default network with random weights, for v."""
    config = ModelConfig.from_dict(pretrained.load("default").config)
    torch.manual_seed(0)
    network = build_backbone(config.backbone).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    dtype = network_dtype(device)

    def step(batch: Batch) -> None:
        inputs, target, time_step = noised(batch.to(device))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = network(inputs, time_step)

        F.mse_loss(output.float(), target).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        synchronize(device)

    return step


def noised(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the network's input, its target v, and the times."""
    angle = torch.rand(len(batch.clean), 1, 1, 1, device=batch.clean.device) * torch.pi / 2
    noise = torch.randn_like(batch.clean)
    noisy = angle.cos() * batch.clean + angle.sin() * noise
    inputs = torch.cat([noisy, batch.condition.picture, batch.condition.known], dim=1)
    target = angle.cos() * noise - angle.sin() * batch.clean
    return inputs.contiguous(memory_format=torch.channels_last), target, angle.flatten() * 600


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(batches: Batches, rounds: int, batches_a_round: int) -> None:
    """Print the time of the data, of the step, and their ratio."""
    step = training_step()
    fixed = batches.at(0)
    settings = batches.settings
    pixels = settings.batch * settings.crop**2
    made = []
    trained = []

    for number in range(-1, rounds):  # the first is a warm-up
        steps = range(1 + (number + 1) * batches_a_round, 1 + (number + 2) * batches_a_round)
        with one_thread():
            data = (
                seconds(lambda steps=steps: [batches.at(index) for index in steps])
                / batches_a_round
            )
        took = seconds(lambda: [step(fixed) for _ in range(2)]) / 2
        if number >= 0:
            made.append(data)
            trained.append(took)

    ratio = statistics.median(data / took for data, took in zip(made, trained, strict=True))
    print(
        f"{settings.batch} crops of {settings.crop}×{settings.crop}, {torch.get_num_threads()} "
        "threads, ",
        end="",
    )
    print(
        f"{network_dtype(HOST)}, medians of {rounds} rounds\n\n| | ms | Mpixel/s |\n|---|---:|---:|"
    )

    for name, times in (("a batch, one thread", made), ("a training step", trained)):
        took = statistics.median(times)
        print(f"| {name} | {1e3 * took:.1f} | {pixels / took / 1e6:.3f} |")

    for workers in (0, 1):
        took = fed(step, batches, workers, rounds)
        name = "a thread" if workers == 0 else "a process"
        print(
            f"| a training step, fed by {name} | {1e3 * took:.1f} | {pixels / took / 1e6:.3f} |",
            flush=True,
        )

    print(f"\nData over step: {100 * ratio:.1f} %\n")


def fed(step: Callable[[Batch], None], batches: BatchSource, workers: int, rounds: int) -> float:
    """Return the median seconds of a step with its batch from the stream."""
    stream = batches.stream(workers=workers)
    step(next(stream))
    times = [seconds(lambda: step(next(stream))) for _ in range(2 * rounds)]
    stream.close()
    return statistics.median(times)


def list_degradations(pictures: Pictures, crop: int, count: int) -> None:
    """Print the time of each degradation, crop included."""
    print("| degradation | fraction, % | ms a picture |\n|---|---:|---:|")
    kinds = {
        name: (fraction, Mixture.only(name), 0.0) for name, fraction in Mixture().fractions.items()
    }
    for name, (fraction, mixture, unconditional) in {
        "none": (0.0, Mixture(), 1.0),
        **kinds,
    }.items():
        batches = Batches(
            pictures,
            crop=crop,
            batch=count,
            unconditional_fraction=unconditional,
            degradations=mixture,
        )
        with one_thread():
            batches.at(0)
            took = min(
                seconds(lambda batches=batches, step=step: batches.at(step)) for step in (1, 2, 3)
            )
        print(f"| {name} | {100 * fraction:.0f} | {1e3 * took / count:.2f} |", flush=True)


def compare_places(host: Batches, device: DeviceBatches, rounds: int, workers: int) -> None:
    """Print the speed of batches from the host and from the device, and their cost for a step."""
    step = training_step(device.device)
    fixed = host.at(0)
    settings = host.settings
    pixels = settings.batch * settings.crop**2
    step(fixed)
    bare = statistics.median(seconds(lambda: step(fixed)) for _ in range(2 * rounds))
    print(
        f"{settings.batch} crops of {settings.crop}×{settings.crop} on "
        f"{device_name(device.device)}, medians; a step that finds "
    )
    print(f"its batch ready takes {1e3 * bare:.1f} ms, {pixels / bare / 1e6:.3f} Mpixel/s\n")
    print(
        "| batches from | ms | Mpixel/s | a step fed by them, ms | of it the data, % "
        "|\n|---|---:|---:|---:|---:|"
    )

    for name, batches, processes in (("the host", host, workers), ("the device", device, 0)):
        made = fed(lambda _: synchronize(device.device), batches, processes, rounds)
        took = fed(step, batches, processes, rounds)
        fraction = max(0.0, 1 - bare / took)
        print(
            f"| {name} | {1e3 * made:.1f} | {pixels / made / 1e6:.3f} | {1e3 * took:.1f} | "
            f"{100 * fraction:.1f} |",
            flush=True,
        )

    print()


def compare_statistics(
    host: Pictures, device: DevicePictures, crop: int, count: int, predictor: bool
) -> None:
    """Print statistics of what both show of each degradation."""
    data = PredictorData("inverse", 1.0, True) if predictor else None
    columns = ("error", "known fraction", "noise")[: 3 if predictor else 2]
    print("| degradation |" + "".join(f" {name}, host | device |" for name in columns))
    print("|---|" + "---:|---:|" * len(columns))

    for name in Mixture().fractions:
        settings = {
            "crop": crop,
            "batch": count,
            "unconditional_fraction": 0,
            "degradations": Mixture.only(name),
        }
        ours = DeviceBatches(device, device=device.device, predictor=data, **settings).at(1)
        theirs = Batches(host, predictor=data, **settings).at(1)
        values = zip(seen_in(theirs), seen_in(ours), strict=True)
        cells = (
            f" {float(v.mean()):.4f} ± {float(v.std()):.4f} |" for pair in values for v in pair
        )
        print(f"| {name} |{''.join(cells)}", flush=True)


def seen_in(batch: Batch) -> list[Tensor]:
    """Return statistics of each picture.

    These are the RMS error where something is known, the known fraction, and the noise level if the
    network is told it.
    """
    picture, known = batch.condition
    error = ((picture - batch.clean) * (known > 0)).square().flatten(1).mean(dim=1).sqrt()
    maps = [known] if batch.evidence is None else [known, batch.evidence.noise]
    return [error, *(part.flatten(1).mean(dim=1) for part in maps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for the decoded pictures")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--both", action="store_true", help="the host's batches beside the device's"
    )
    parser.add_argument("--device", default="cpu", help="for --both")
    parser.add_argument(
        "--workers", type=int, default=0, help="of --both: processes that make the host's batches"
    )
    parser.add_argument(
        "--pictures", type=int, default=200, help="of --both: for each degradation's statistics"
    )
    parser.add_argument(
        "--predictor", action="store_true", help="of --both: what a predictor is shown"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    pictures = Pictures(arguments.folder, smallest=arguments.crop, cache=arguments.cache)
    print(
        f"{len(pictures)} pictures, {pictures.pixels / 1e6:.0f} megapixels, "
        f"{pictures.bytes / 1e6:.0f} MB, ",
        end="",
    )
    print(f"{len(pictures.skipped)} skipped, read in {time.perf_counter() - start:.1f} s\n")
    if arguments.both:
        device = choose_device(arguments.device)
        predictor = PredictorData("inverse", 0.5, True)
        settings = {"crop": arguments.crop, "batch": arguments.batch}
        settings |= {"predictor": predictor if arguments.predictor else None}
        there = DeviceBatches(pictures, device=device, notice=print, **settings)
        compare_places(Batches(pictures, **settings), there, arguments.rounds, arguments.workers)
        compare_statistics(
            pictures, there.pictures, arguments.crop, arguments.pictures, arguments.predictor
        )
        return

    compare(Batches(pictures, crop=arguments.crop, batch=arguments.batch), arguments.rounds, 8)
    list_degradations(pictures, arguments.crop, 32)


if __name__ == "__main__":
    main()
