"""Train a small latent model, only to prove the chain from training to restoration.

    nice -n 19 python benchmarks/latent_training.py PHOTOS FOLDER

An autoencoder (f = 4, 8 channels) and a denoiser of its latents, both of diffusers, learn from
crops of 64x64 pixels of photographs that were reduced to 256 pixels on the short side. The folder
has the layout of diffusers' `LDMPipeline`, which ``restore --model FOLDER`` reads. By default each
part takes 6 minutes of one core; the autoencoder learns from 32x32 pixels for most of them.
`benchmarks/latent_chain.py` measures the result.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMPipeline, UNet2DModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64
SHORT_SIDE = 256
BATCH = 16
LATENT_CHANNELS = 8
KL_WEIGHT = 1e-5
# Latents of the training set, of as many random crops.
BANK = 4_000


def pictures(folder: Path) -> list[Tensor]:
    """Return the photographs of a folder, reduced, uint8 [3, H, W]."""
    found = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as photo:
            factor = SHORT_SIDE / min(photo.size)
            size = (round(photo.width * factor), round(photo.height * factor))
            small = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        found.append(torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1))
    return found


def crops(photos: list[Tensor], count: int, generator: torch.Generator, side: int = SIDE) -> Tensor:
    """Return random crops, half of them mirrored, [count, 3, side, side] in [-1, 1]."""
    drawn = []
    for _ in range(count):
        photo = photos[int(torch.randint(len(photos), (), generator=generator))]
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator))
            for length in photo.shape[1:]
        )
        crop = photo[:, top : top + side, left : left + side]
        drawn.append(crop.flip(-1) if torch.rand((), generator=generator) < 0.5 else crop)

    return torch.stack(drawn).float() / 127.5 - 1


def steps(network: nn.Module, minutes: float, rate: float, name: str) -> Iterator[AdamStep]:
    """Yield optimiser steps until the time is over; the learning rate falls by a cosine."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
    began = time.process_time()
    done, count = 0.0, 0
    while done < 1:
        done = min((time.process_time() - began) / (60 * minutes), 1.0)
        warm = min(1.0, (count + 1) / 100)
        optimiser.param_groups[0]["lr"] = rate * warm * (0.02 + 0.49 * (1 + np.cos(np.pi * done)))
        step = AdamStep(network, optimiser, done)
        yield step
        count += 1
        if count % 100 == 0:
            print(f"{name}: step {count}, {100 * done:.0f} %, loss {step.loss:.4f}", flush=True)


class AdamStep:
    """One step of the optimiser: `take` it with the loss of a batch.

    Attributes:
        done: Fraction of the training that is over.
        loss: The loss that it was taken with.
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, done: float) -> None:
        self._network, self._optimiser = network, optimiser
        self.done = done
        self.loss = float("nan")

    def take(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimiser.step()
        self.loss = float(loss.detach())


def trained_autoencoder(photos: list[Tensor], minutes: float) -> AutoencoderKL:
    """Train the autoencoder by the squared error of its reconstructions, and a little KL."""
    blocks = 3
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
    )
    generator = torch.Generator().manual_seed(0)
    for step in steps(autoencoder, minutes, 1e-3, "autoencoder"):
        side = SIDE // 2 if step.done < 0.75 else SIDE
        batch = crops(photos, BATCH * SIDE // side // 4, generator, side)
        posterior = autoencoder.encode(batch).latent_dist
        decoded = autoencoder.decode(posterior.sample()).sample
        kl = posterior.kl().mean() / batch[0].numel()
        step.take(F.mse_loss(decoded, batch) + KL_WEIGHT * kl)

    return autoencoder.eval().requires_grad_(False)


def bank_of_latents(autoencoder: AutoencoderKL, photos: list[Tensor]) -> Tensor:
    """Return latents of random crops, and give the autoencoder their scale."""
    generator = torch.Generator().manual_seed(1)
    means = [
        autoencoder.encode(crops(photos, 50, generator)).latent_dist.mean for _ in range(BANK // 50)
    ]
    latents = torch.cat(means)
    scale = 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale)
    return scale * latents


def trained_denoiser(latents: Tensor, scheduler: DDIMScheduler, minutes: float) -> UNet2DModel:
    """Train the denoiser to predict the noise of latents; return an average of its weights."""
    unet = UNet2DModel(
        sample_size=SIDE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=16,
    )
    average = copy.deepcopy(unet).requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    count = scheduler.config.num_train_timesteps
    for step in steps(unet, minutes, 8e-4, "denoiser"):
        clean = latents[torch.randint(len(latents), (BATCH,), generator=generator)]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(count, (BATCH,), generator=generator)
        noisy = scheduler.add_noise(clean, noise, times)
        step.take(F.mse_loss(unet(noisy, times).sample, noise))
        decay = 0.998 if step.done > 0.1 else 0.9
        with torch.no_grad():
            for mean, now in zip(average.parameters(), unet.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)

    return average.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("folder", type=Path, help="folder of the pipeline, which is written")
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="of one core, for each of the two"
    )
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    photos = pictures(arguments.photos)
    autoencoder = trained_autoencoder(photos, arguments.minutes)
    autoencoder.save_pretrained(arguments.folder / "vqvae", safe_serialization=True)
    latents = bank_of_latents(autoencoder, photos)
    scheduler = DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False
    )
    unet = trained_denoiser(latents, scheduler, arguments.minutes)
    LDMPipeline(vqvae=autoencoder, unet=unet, scheduler=scheduler).save_pretrained(
        arguments.folder, safe_serialization=True
    )


if __name__ == "__main__":
    main()
