"""Tabulate DDIM's η × steps for super-resolution by the distance to photographs.

    RESTORE_LPIPS_TRUNK=alexnet_features.safetensors \\
    python benchmarks/sr_eta_steps.py CID22_VAL --count 48 --size 128 [--features FILE]

The table of DDIM (Song et al. 2021, arXiv 2010.02502, table 1) for SR3: a corner of each picture
is reduced and enlarged again by `--method sr3`, whose step is DDIM's with η and a projection onto
the measurement. Each cell has the Fréchet distance of the enlarged pictures to the pictures
themselves, as `restore evaluate --generated` measures it, and KID × 1000 with its error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from problems import PROBLEMS, Case, load_pictures, to_tensor

from restore import Restorer
from restore.methods.options import Options
from restore.metrics.distances import Statistics, frechet_distance, kernel_distance
from restore.metrics.features import ALEXNET, FeatureNetwork, load_features

ETAS = (0.0, 0.2, 0.5, 1.0)
STEPS = (5, 10, 20, 50)


def enlarged(restorer: Restorer, cases: list[Case], options: Options) -> torch.Tensor:
    """Return the restored pictures, uint8 [N, 3, H, W]."""
    found = []
    for case in cases:
        problem = restorer.problem(case.task, to_tensor(case.photo))
        solutions, _ = restorer.solve_problem(problem, options)
        found.append(_eight_bit(solutions[0]))  # the only sample
    return torch.cat(found)


def cell(network: FeatureNetwork, pictures: torch.Tensor, reference: np.ndarray) -> str:
    """Return both distances to the reference as text."""
    features = network(pictures)
    frechet = frechet_distance(Statistics.of(features), Statistics.of(reference))
    kid = kernel_distance(features, reference)
    return f"{frechet:.3g}, {1000 * kid.value:.3g} ± {1000 * kid.error:.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="sharp pictures, which must not be small")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--problem", default="sr4", choices=sorted(PROBLEMS))
    parser.add_argument("--features", default=ALEXNET)
    parser.add_argument("--etas", type=float, nargs="+", default=ETAS)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    a = parser.parse_args()

    restorer = Restorer()
    network = load_features(a.features, restorer.device)
    named = load_pictures(a.folder, a.size, a.count).items()
    cases = [PROBLEMS[a.problem].degrade(name, picture) for name, picture in named]
    reference = network(torch.cat([_eight_bit(case.truth) for case in cases]))

    print(f"{network.name}; {len(cases)} pictures of {a.size}x{a.size}: Fréchet, KID × 1000\n")
    print(f"| η | {' | '.join(f'{steps} steps' for steps in a.steps)} |")
    print("|---|" + "---|" * len(a.steps))
    for eta in a.etas:
        cells = [
            cell(network, enlarged(restorer, cases, Options("sr3", steps, eta)), reference)
            for steps in a.steps
        ]
        print(f"| {eta:g} | {' | '.join(cells)} |", flush=True)


def _eight_bit(pictures: torch.Tensor) -> torch.Tensor:
    """Return pictures in [0, 1] as uint8 on the CPU."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


if __name__ == "__main__":
    main()
