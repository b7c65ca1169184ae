"""What a command imports before its first call of the network: what it needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.pictures import FIXTURES

import cli

# What takes long to import, or is for other commands.
HEAVY = (
    *("scipy.sparse", "scipy.fft", "scipy.linalg", "scipy.optimize", "scipy.ndimage"),
    *("skimage.restoration", "skimage.filters", "cv2", "tifffile", "kornia", "lpips", "ray"),
    *("restore.film.clip", "restore.report.html", "restore.evaluate.run", "restore.blind"),
    *("matplotlib", "pandas", "fastapi", "spandrel", "av", "rawpy", "torchvision", "torch._dynamo"),
)


@pytest.mark.parametrize("line", ["sr --scale 2 --method one-step", "denoise --noise 0.1"])
def test_a_small_picture_needs_no_heavy_module(line, tmp_path) -> None:
    picture = next(FIXTURES.glob("*.png"))
    code = (
        "import sys, cli; "
        f"code = cli.exit_code({[*line.split(), str(picture), str(tmp_path / 'out.png')]!r}); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(cli.__file__).parent,
        timeout=120,
    )
    assert done.stdout == "0 []\n", done.stderr
