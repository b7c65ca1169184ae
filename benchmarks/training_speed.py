"""Compare the speed of the trainer with a plain training loop, in pixels a second.

    python benchmarks/training_speed.py [--recipe recipe.toml] [--batch 16] [--crop 64] \\
        [--rounds 5] [--compile]

The plain loop is float32 in the default memory format, with torch.optim.AdamW as it comes. The
trainer's step has all that it does in a run: random numbers, both kinds of pictures, losses,
clipping, averages. The network is the default one. Both take turns in every round; the ratio is the
median of the rounds' own. Pictures are random: benchmarks/training_data.py measures what real ones
cost.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from restore.backbone import build_backbone
from restore.diffusion.denoiser import Condition, ModelConfig
from restore.runtime.devices import choose_device, keep_freed_memory, synchronize
from restore.training.batches import Batch
from restore.training.learner import Learner
from restore.training.processes import joined
from restore.training.recipe import Recipe, default_model
from restore.training.recipe_file import read_recipe

Step = Callable[[Batch], object]


def plain_step(model: ModelConfig, device: torch.device) -> Step:
    """Return a function that takes a step in float32, eager, NCHW, for target v."""
    network = build_backbone(model.backbone).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(batch: Batch) -> None:
        angle = torch.rand(len(batch.clean), 1, 1, 1, device=device) * torch.pi / 2
        noise = torch.randn_like(batch.clean)
        noisy = angle.cos() * batch.clean + angle.sin() * noise
        inputs = torch.cat([noisy, batch.condition.picture, batch.condition.known], dim=1)
        output = network(inputs, angle.flatten() * 600)
        F.mse_loss(output, angle.cos() * noise - angle.sin() * batch.clean).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def random_batch(count: int, crop: int, device: torch.device) -> Batch:
    """Return a batch of random pictures, a third of them without condition."""
    clean = torch.rand(count, 3, crop, crop, device=device) * 2 - 1
    known = (
        (torch.arange(count, device=device) >= count // 3)
        .float()[:, None, None, None]
        .expand(-1, 1, crop, crop)
    )
    return Batch(clean, Condition(clean * known, known.contiguous()))


def seconds(step: Step, batch: Batch, device: torch.device) -> float:
    started = time.perf_counter()
    step(batch)
    synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--recipe", type=Path, help="its network and optimiser; the default recipe's otherwise"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--compile", action="store_true", help="the trainer's network by torch.compile"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    batch = random_batch(arguments.batch, arguments.crop, device)

    with joined(arguments.device) as processes:
        recipe = Recipe() if arguments.recipe is None else read_recipe(arguments.recipe)
        model = recipe.model or default_model()
        recipe = replace(recipe, model=model, run=replace(recipe.run, compile=arguments.compile))
        learner = Learner(recipe.with_length(10_000, None), processes)
        steps: dict[str, Step] = {
            "plain": plain_step(model, device),
            "trainer": lambda b: learner.learn(b, 0.1),
        }
        for step in steps.values():
            step(batch)
        rounds = [
            {name: seconds(step, batch, device) for name, step in steps.items()}
            for _ in range(arguments.rounds)
        ]

    pixels = arguments.batch * arguments.crop**2

    for name in steps:
        print(
            f"{name}: {pixels / statistics.median(r[name] for r in rounds) / 1e3:.1f} thousand "
            "pixels a second"
        )

    ratio = statistics.median(r["plain"] / r["trainer"] for r in rounds)
    print(
        f"the trainer's step is {ratio:.2f} times as fast; {torch.get_num_threads()} threads, "
        f"{device}"
    )


if __name__ == "__main__":
    main()
