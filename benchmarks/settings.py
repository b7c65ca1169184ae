"""Compare settings of DDRM and DiffPIR, by PSNR and LPIPS on a few pictures for each task.

    python benchmarks/settings.py DATA_FOLDER --count 4

DDRM's settings are the grid of noise levels, the highest of them and η; DiffPIR's are λ and ζ;
those of other methods are their parameters.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from problems import PROBLEMS, Case, EightBit, load_pictures, to_tensor
from torch import Tensor

from restore import Restorer
from restore.diffusion.schedule import noise_levels
from restore.errors import Unavailable
from restore.methods import METHODS
from restore.methods.defaults import Defaults
from restore.methods.options import Options
from restore.methods.run import Run
from restore.metrics.quality import load_lpips, psnr
from restore.solvers import diffpir

PAPER = Defaults(20, "uniform", None, 0.85, 0.85)
# Bold settings are those of the package. Noise levels are σ for pictures in [-1, 1].
SETTINGS: dict[str, dict[str, Defaults]] = {
    "sr4": {
        "the paper's: uniform in t from σ 100, η 0.85": PAPER,
        "uniform from σ 100, η 1": PAPER._replace(eta=1.0),
        "log-SNR from σ 1, η 0.85": Defaults(20, "log-snr", 1.0, 0.85),
        "**log-SNR from σ 1, η 1**": Defaults(20, "log-snr", 1.0, 1.0),
        "log-SNR from σ 5, η 1": Defaults(20, "log-snr", 5.0, 1.0),
    },
    "sr4-noise": {
        "the paper's": PAPER,
        "**log-SNR from σ 1, η 0.85**": Defaults(20, "log-snr", 1.0, noisy_eta=0.85),
        "log-SNR from σ 1, η 1": Defaults(20, "log-snr", 1.0, noisy_eta=1.0),
    },
    "deblur-gaussian": {
        "the paper's": PAPER,
        "Karras from σ 157, η 0.9": Defaults(20, "karras", None, noisy_eta=0.9),
        "log-SNR from σ 5, η 0.85": Defaults(20, "log-snr", 5.0, noisy_eta=0.85),
        "**log-SNR from σ 1, η 0.85**": Defaults(20, "log-snr", 1.0, noisy_eta=0.85),
        "log-SNR from σ 1, η 0.95": Defaults(20, "log-snr", 1.0, noisy_eta=0.95),
    },
    "inpaint-strokes": {
        "the paper's": PAPER,
        "from grey: log-SNR from σ 1, η 1": Defaults(20, "log-snr", 1.0),
        "from grey: log-SNR from half the holes' width, η 1": Defaults(20, "log-snr", "holes"),
        "from a classical fill: log-SNR from σ 1, η 1": Defaults(
            20, "log-snr", 1.0, classical_start=True
        ),
        "from a classical fill: log-SNR from σ 0.2, η 1": Defaults(
            20, "log-snr", 0.2, classical_start=True
        ),
        "**from a classical fill: log-SNR from an eighth of the holes' width, η 1**": Defaults(
            20, "log-snr", "filled holes", classical_start=True
        ),
    },
    "colorize": {
        "the paper's": PAPER,
        "from zero: log-SNR from σ 1, η 1": Defaults(20, "log-snr", 1.0),
        "from grey: log-SNR from σ 1, η 1": Defaults(20, "log-snr", 1.0, classical_start=True),
        "**from grey: log-SNR from σ 0.2, η 1**": Defaults(
            20, "log-snr", 0.2, classical_start=True
        ),
    },
}
STRENGTHS_OF_DPIR = (0.1, 0.18, 0.23, 0.35, 0.5, 1.0)
STRENGTH_TASKS = ("deblur-gaussian", "deblur-motion")
# DiffPIR starts here from mid-grey instead of a smooth estimate.
STRENGTHS = (
    ("λ 8, ζ 1", 8.0, 1.0),
    ("λ 4, ζ 1", 4.0, 1.0),
    ("λ 4, ζ 0.5", 4.0, 0.5),
    ("λ 2, ζ 1", 2.0, 1.0),
    ("**λ 1, ζ 1**", 1.0, 1.0),
    ("λ 0.5, ζ 1", 0.5, 1.0),
)
GUIDANCE = [
    {"weight": weight, "damping": damping}
    for weight, damping in ((8.0, 1.0), (16.0, 0.0), (16.0, 1.0), (32.0, 1.0))
]


def preconditioners(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    """Parameters of DDPG: γ and η̃."""
    return [{"gamma": gamma, "eta_tilde": eta_tilde} for gamma, eta_tilde in pairs]


def jumps(*pairs: tuple[int, int]) -> list[dict[str, float]]:
    """Parameters of RePaint: j and r."""
    return [{"jump_length": length, "resamplings": times} for length, times in pairs]


# Parameters by method, task and number of calls.
PARAMETERS: dict[tuple[str, str, int], list[dict[str, float]]] = {
    ("dpir", "deblur-motion", 5): [{"strength": x} for x in STRENGTHS_OF_DPIR],
    ("dpir", "deblur-motion", 8): [{"strength": x} for x in STRENGTHS_OF_DPIR],
    ("dpir", "deblur-motion", 20): [{"strength": x} for x in STRENGTHS_OF_DPIR],
    ("dpir", "deblur-gaussian", 8): [{"strength": x} for x in STRENGTHS_OF_DPIR],
    ("dpir", "denoise-25", 8): [{"strength": x} for x in STRENGTHS_OF_DPIR],
    ("ddpg", "sr4-noise", 20): preconditioners((3, 1), (8, 1), (8, 16)),
    ("ddpg", "deblur-gaussian", 20): preconditioners((30, 1), (30, 6)),
    ("ddpg", "deblur-motion", 20): preconditioners((8, 16), (30, 6), (30, 16)),
    ("ddpg", "denoise-25", 20): [{"c": step} for step in (0.1, 1.0)],
    ("repaint", "inpaint-strokes", 8): jumps((1, 1), (1, 2)),
    ("repaint", "inpaint-strokes", 20): jumps((1, 1), (1, 2), (1, 4), (2, 2)),
    ("red-diff", "sr4", 20): [{"rate": 0.03}, {"rate": 0.1}, {"strength": 1.0, "rate": 0.03}],
    ("red-diff", "inpaint-strokes", 20): [{"rate": 0.03}, {"rate": 0.1}],
    ("red-diff", "deblur-motion", 20): [
        {"strength": 0.25, "rate": 0.1},
        {"strength": 0.25, "rate": 0.02},
        {"strength": 0.05, "rate": 0.03},
    ],
    ("red-diff", "denoise-25", 20): [{"strength": x} for x in (0.25, 4.0, 20.0)],
    ("dps", "sr4", 50): [{"step_size": size} for size in (0.005, 0.02, 0.05)],
    ("dps", "inpaint-random", 20): [{"step_size": size} for size in (0.02, 0.05)],
    ("conjugate-pigdm", "sr4", 8): GUIDANCE,
    ("conjugate-pigdm", "deblur-motion", 8): GUIDANCE,
    ("daps", "sr4", 20): [{"langevin_time": time} for time in (2e-4, 1e-3, 1e-2)],
    ("daps", "deblur-gaussian", 20): [{"langevin_time": time} for time in (2e-4, 1e-3)],
    ("pnp-dm", "sr4", 100): [{"reverse_steps": calls} for calls in (2, 5)],
    ("snips", "sr4", 20): [{"step_size": size} for size in (0.5, 1.0)],
    ("snips", "sr4", 100): [{"steps_each": 2, "consistent": 0, "step_size": 0}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=4)
    methods = list(dict.fromkeys(method for method, _, _ in PARAMETERS))
    parser.add_argument(
        "--only",
        choices=("ddrm", "diffpir", "parameters", *methods),
        help="one table, or the parameters of one method",
    )
    arguments = parser.parse_args()
    pictures = load_pictures(arguments.folder, arguments.size, arguments.count)
    restorer = Restorer()

    try:
        lpips = load_lpips()
    except Unavailable:
        lpips = None

    print(
        f"First {len(pictures)} pictures of `{arguments.folder.resolve().name}`, top-left "
        f"{arguments.size} pixels.\n"
    )
    if arguments.only in (None, "ddrm"):
        print("| task | DDRM's settings, 20 steps | PSNR | LPIPS |\n|---|---|---:|---:|")
        measure_ddrm(restorer, pictures, lpips)
    if arguments.only in (None, "diffpir"):
        print(
            "\n| task | DiffPIR's settings, 20 log-SNR levels from σ 1 | PSNR | LPIPS "
            "|\n|---|---|---:|---:|"
        )
        measure_diffpir(restorer, pictures, lpips)
    if arguments.only not in ("ddrm", "diffpir"):
        chosen = [arguments.only] if arguments.only in methods else methods
        print("\n| task | parameters | PSNR | LPIPS |\n|---|---|---:|---:|")
        measure_parameters(restorer, pictures, lpips, chosen)


def measure_ddrm(restorer: Restorer, pictures: Mapping[str, EightBit], lpips: Any) -> None:
    for task_name, settings in SETTINGS.items():
        cases = [PROBLEMS[task_name].degrade(name, picture) for name, picture in pictures.items()]
        for label, defaults in settings.items():
            scores = []
            for case in cases:
                problem = restorer.problem(case.task, to_tensor(case.photo))
                generator = torch.Generator().manual_seed(0)
                with torch.inference_mode():
                    solution = METHODS["ddrm"].solve(
                        Run(restorer.denoiser, problem, defaults, generator, None)
                    )
                scores.append(score(problem.operator.visible(solution), case, lpips))
            show(task_name, label, scores)


def measure_diffpir(restorer: Restorer, pictures: Mapping[str, EightBit], lpips: Any) -> None:
    for task_name in STRENGTH_TASKS:
        cases = [PROBLEMS[task_name].degrade(name, picture) for name, picture in pictures.items()]
        for label, strength, zeta in STRENGTHS:
            show(
                task_name,
                label,
                [score(fitted(restorer, case, strength, zeta), case, lpips) for case in cases],
            )


def measure_parameters(
    restorer: Restorer, pictures: Mapping[str, EightBit], lpips: Any, methods: Sequence[str]
) -> None:
    for (method, task_name, steps), choices in PARAMETERS.items():
        if method not in methods:
            continue
        cases = [PROBLEMS[task_name].degrade(name, picture) for name, picture in pictures.items()]
        for parameters in choices:
            options = Options(method, steps, parameters=parameters)
            scores = []
            for case in cases:
                problem = restorer.problem(case.task, to_tensor(case.photo))
                samples, _ = restorer.solve_problem(problem, options)
                scores.append(score(2 * samples[0] - 1, case, lpips))
            text = ", ".join(f"{name} {value:g}" for name, value in parameters.items())
            show(task_name, f"{method}, {steps} calls, {text}", scores)


def fitted(restorer: Restorer, case: Case, strength: float, zeta: float) -> Tensor:
    """Restore a blurred picture by DiffPIR with this λ and ζ, in [-1, 1]."""
    problem = restorer.problem(case.task, to_tensor(case.photo))
    with torch.inference_mode():
        solution = diffpir(
            restorer.denoiser,
            problem.model_operator,
            problem.model_measurement,
            2 * problem.noise,
            noise_levels(restorer.denoiser.schedule, 20, "log-snr", highest=1.0),
            generator=torch.Generator().manual_seed(0),
            strength=strength,
            zeta=zeta,
            final_projection=True,
        )

    return problem.operator.visible(solution)


def score(solution: Tensor, case: Case, lpips: Any) -> tuple[float, float]:
    """Return PSNR and LPIPS of a solution in [-1, 1], rounded to 8 bits; LPIPS may be NaN."""
    result = ((solution + 1) / 2).clamp(0, 1).mul(255).round().div(255).cpu()
    distance = float(lpips(result, case.truth)) if lpips else math.nan

    return float(psnr(result, case.truth)), distance


def show(task: str, label: str, scores: list[tuple[float, float]]) -> None:
    values = [fmean(column) for column in zip(*scores, strict=True)]
    print(f"| {task} | {label} | {values[0]:.2f} | {values[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
