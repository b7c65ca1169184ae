"""Measure the memory and time that DDRM takes with ADM's network for ImageNet at 256 × 256.

    python benchmarks/adm256_step.py [--steps 1] [--device cpu] [--dtype bfloat16]

The network (Dhariwal, Nichol 2021, arXiv 2105.05233) has 552,814,086 parameters. Its weights are
random, on which neither time nor memory depends; the result is noise. The problem is ×4
super-resolution, with one network call a step.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

import operators
from restore.backbone import Backbone, BackboneConfig, build_backbone
from restore.diffusion.denoiser import Denoiser, ModelConfig
from restore.diffusion.schedule import noise_levels
from restore.evaluate.meter import Meter
from restore.runtime.devices import choose_device, device_name, keep_freed_memory, network_dtype
from restore.solvers import Step, ddrm

ADM_256 = BackboneConfig(
    channels=256,
    channel_multipliers=(1, 1, 2, 2, 4, 4),
    blocks=2,
    attention_factors=(8, 16, 32),
    head_channels=64,
    learned_variance=True,
    resblock_updown=True,
)
PARAMETERS = 552_814_086
SIDE = 256


def random_denoiser(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """Build a denoiser with random weights, directly on the device and in the format of use."""
    with torch.device("meta"):
        network = build_backbone(config.backbone)
    network.requires_grad_(False).set_compute_dtype(dtype).to(memory_format=torch.channels_last)
    return Denoiser(_filled(network.to_empty(device=device).eval()), config)


def _filled(network: Backbone) -> Backbone:
    """Fill weights with variance 1/fan-in, and norms with the identity."""
    for name, tensor in network.named_parameters():
        if tensor.ndim > 1:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
        else:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
    return network


class Measured(NamedTuple):
    """Time and memory of some steps of DDRM.

    Attributes:
        parameters: Number of parameters.
        weights: Size of the weights in GiB.
        peak: Peak memory in GiB of the process or device, beyond the weights and what it took
            before the first step; None if it is not known.
        calls: Seconds of each step, to the end of its network call.
        processor: Processor seconds of all steps, which other programs do not lengthen.
        answer: Result [1, 3, side, side] in [-1, 1].
    """

    parameters: int
    weights: float
    peak: float | None
    calls: list[float]
    processor: float
    answer: Tensor


def measured(denoise: Denoiser, side: int, steps: int) -> Measured:
    """Run DDRM from σ ≈ 10 on a random measurement with a quarter of the side.

    The last estimate is projected onto the measurement.
    """
    operator = operators.downsample((3, side, side), 4).to(denoise.device)
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    y = operator.A(2 * picture.to(denoise.device) - 1)
    times = [time.perf_counter()]

    def note(step: Step) -> None:
        float(step.clean.sum())  # waits for the device
        times.append(time.perf_counter())

    levels = noise_levels(denoise.schedule, steps, "log-snr", highest=10.0)
    generator = torch.Generator().manual_seed(1)

    with torch.inference_mode(), Meter(denoise.device) as meter:
        times[0] = time.perf_counter()
        worked = time.process_time()
        answer = ddrm(
            denoise,
            operator,
            y,
            0.0,
            levels,
            generator=generator,
            final_projection=True,
            callback=note,
        )

    worked = time.process_time() - worked
    weights = list(denoise.network.parameters())
    size = sum(w.numel() * w.element_size() for w in weights) / 2**30
    peak = None if meter.memory is None else meter.memory / 2**10
    if peak is not None and denoise.device.type != "cpu":
        peak -= size  # the memory of a device includes the weights

    seconds = [end - begin for begin, end in pairwise(times)]

    return Measured(sum(w.numel() for w in weights), size, peak, seconds, worked, answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="default: what suits the device"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else network_dtype(device)
    started = time.perf_counter()
    denoise = random_denoiser(ModelConfig(ADM_256, {"name": "linear"}), device, dtype)
    made = time.perf_counter() - started
    found = measured(denoise, SIDE, arguments.steps)
    about = (
        f"{device_name(device)}, {str(dtype).removeprefix('torch.')}, "
        f"{torch.get_num_threads()} threads"
    )
    peak = "" if found.peak is None else f", peak beside them {found.peak:.2f} GiB"
    print(
        f"{about}: {found.parameters:,} parameters, {found.weights:.2f} GiB, made in {made:.1f} "
        f"s{peak}"
    )
    each = ", ".join(f"{s:.2f}" for s in found.calls)
    print(f"seconds a step of {SIDE}x{SIDE}: {each}; of processors in all: {found.processor:.2f}")


if __name__ == "__main__":
    main()
