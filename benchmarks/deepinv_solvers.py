"""Compare what DDRM and DiffPIR cost outside the network's calls, ours and deepinv's.

    python benchmarks/deepinv_solvers.py --size 256 --steps 20 --rounds 5

Both call the same network on the same picture as often: DDRM fills a mask's holes, DiffPIR undoes a
circular blur. The time of the calls is taken off; rounds take turns. deepinv is the installed
version (Tachella et al., deepinv.github.io).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import deepinv
import torch
from torch import Tensor

from operators import CircularConvolution, Mask, kernels
from restore import Restorer
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.protocol import Prediction
from restore.diffusion.schedule import noise_levels
from restore.runtime.devices import synchronize
from restore.solvers import ddrm, diffpir

NOISE = 0.02  # for pixels in [0, 1]


class Network(torch.nn.Module):
    """The default network as deepinv's denoisers: pictures in [0, 1] and their noise level.

    Attributes:
        seconds: Time in its calls so far.
        calls: Number of its calls so far.
    """

    def __init__(self, denoiser: Denoiser | None = None) -> None:
        super().__init__()
        self.denoiser = denoiser or Restorer(device="cpu").denoiser
        self.seconds = 0.0
        self.calls = 0

    def forward(self, x: Tensor, sigma: Tensor | float, **_: object) -> Tensor:
        with self._timed(x.device):
            level = 2 * float(torch.as_tensor(sigma).max())
            return (self.denoiser(2 * x - 1, level).clean + 1) / 2

    def ours(self, x: Tensor, sigma: float, condition: None = None) -> Prediction:
        """Call the network as our solvers do, for pictures in [-1, 1]."""
        with self._timed(x.device):
            return self.denoiser(x, sigma)

    @contextmanager
    def _timed(self, device: torch.device) -> Iterator[None]:
        synchronize(device)
        started = time.perf_counter()
        yield
        synchronize(device)
        self.seconds += time.perf_counter() - started
        self.calls += 1


def ddrm_levels(network: Network, steps: int) -> list[float]:
    """Noise levels of our DDRM for pictures in [0, 1], as deepinv takes them: without the zero."""
    return [sigma / 2 for sigma in noise_levels(network.denoiser.schedule, steps)[:-1]]


def candidates(network: Network, size: int, steps: int) -> dict[str, Callable[[], object]]:
    """Return each solver as a function that restores one picture."""
    shape = (3, size, size)
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, *shape, generator=generator)
    sigmas = noise_levels(network.denoiser.schedule, steps)
    gaussian = deepinv.physics.GaussianNoise(NOISE)

    known = torch.rand(shape[1:], generator=generator) < 0.5
    mask = Mask(shape, known)
    their_mask = deepinv.physics.Inpainting(
        shape, mask=known.float().expand(shape), noise_model=gaussian
    )

    kernel = kernels.gaussian(2.0)
    blur = CircularConvolution(shape, kernel)
    their_blur = deepinv.physics.BlurFFT(
        img_size=shape,
        filter=torch.from_numpy(kernel.copy()).float()[None, None],
        noise_model=gaussian,
    )
    their_ddrm = deepinv.sampling.DDRM(network, sigmas=ddrm_levels(network, steps))
    their_diffpir = deepinv.sampling.DiffPIR(
        network, deepinv.optim.L2(), sigma=NOISE, max_iter=steps
    )

    def ours(solve: Callable[..., object], operator: object) -> Callable[[], object]:
        y = operator.A(2 * picture - 1)
        return lambda: solve(
            network.ours, operator, y, 2 * NOISE, sigmas, generator=generator.manual_seed(0)
        )

    return {
        "ddrm, mask: ours": ours(ddrm, mask),
        "ddrm, mask: deepinv": lambda: their_ddrm(their_mask.A(picture), their_mask),
        "diffpir, blur: ours": ours(diffpir, blur),
        "diffpir, blur: deepinv": lambda: their_diffpir(their_blur.A(picture), their_blur),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    network = Network()
    runs = candidates(network, a.size, a.steps)
    outside: dict[str, list[float]] = {name: [] for name in runs}
    calls = {}

    with torch.inference_mode():
        for run in runs.values():
            run()  # warm-up
        for _ in range(a.rounds):
            for name, run in runs.items():
                network.seconds, network.calls = 0.0, 0
                started = time.perf_counter()
                run()
                outside[name].append(time.perf_counter() - started - network.seconds)
                calls[name] = network.calls

    threads = torch.get_num_threads()
    print(f"{a.size}×{a.size}, {threads} threads, medians of {a.rounds} rounds\n")
    print("| solver | calls | seconds outside them | times ours |\n|---|---:|---:|---:|")
    for name, times in outside.items():
        own = outside[f"{name.split(':')[0]}: ours"]
        ratio = statistics.median(t / o for t, o in zip(times, own, strict=True))
        print(f"| {name} | {calls[name]} | {statistics.median(times):.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
