"""Compare the network's multiplications a second with those of one bare convolution.

    python benchmarks/network_call.py --size 512 --rounds 5

The convolution has 128 channels, 3×3 taps, and the memory format and number type of the network.
Both take turns; the ratio is the median of the rounds' own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from restore.diffusion.denoiser import Denoiser
from restore.restorer import load_denoiser
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype, synchronize

CHANNELS = 128


def bare_call(denoiser: Denoiser, size: int) -> Callable[[], object]:
    """Return a function that calls the network alone, with the input that the denoiser gives it."""
    network = denoiser.network
    inputs: list[tuple[Tensor, ...]] = []
    hook = network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments))
    denoiser(torch.zeros(1, 3, size, size, device=denoiser.device), 1.0)
    hook.remove()

    return lambda: network(*inputs[0])


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> list[dict[str, float]]:
    """Time each candidate in each round, in seconds; every other round goes backwards."""
    times = []
    for index in range(rounds):
        order = list(candidates) if index % 2 == 0 else list(reversed(candidates))
        times.append({name: seconds(candidates[name], device) for name in order})

    return times


def seconds(function: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    keep_freed_memory()
    device = choose_device(a.device)
    dtype = network_dtype(device)
    denoiser = load_denoiser(a.model, device, dtype)

    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, device=device, dtype=dtype)
    convolution = convolution.requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.randn(1, CHANNELS, a.size // 4, a.size // 4, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last)

    with torch.inference_mode():
        call = bare_call(denoiser, a.size)
        work = {}
        for name, run in (("network", call), ("convolution", lambda: convolution(x))):
            with FlopCounterMode(display=False) as counter:
                run()
            work[name] = counter.get_total_flops()

        # as much work in both, so that both see the same machine
        repeats = max(1, round(work["network"] / work["convolution"]))
        times = interleaved(
            {"network": call, "convolution": lambda: [convolution(x) for _ in range(repeats)]},
            a.rounds,
            device,
        )

    work["convolution"] *= repeats
    speeds = [{name: work[name] / took[name] / 1e9 for name in work} for took in times]
    print(f"{a.size}×{a.size}, {device}, {dtype}, {torch.get_num_threads()} threads")
    for name in work:
        print(f"{name}: {statistics.median(speed[name] for speed in speeds):.0f} GFLOP/s")
    ratio = statistics.median(speed["network"] / speed["convolution"] for speed in speeds)
    print(f"network / convolution: {ratio:.2f}")


if __name__ == "__main__":
    main()
