"""Compare the network's multiplications a second with those of one bare convolution.

    python benchmarks/network_call.py --size 512 --rounds 5

The convolution has 128 channels, 3×3 taps, and the memory format and number type of the network.
Both take turns; the ratio is the median of the rounds' own.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from overhead import bare_calls, interleaved
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from restore.restorer import load_denoiser
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype

CHANNELS = 128


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
        call = bare_calls(denoiser, a.size, 1)
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
