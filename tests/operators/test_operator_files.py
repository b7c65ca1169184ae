"""Files that operators name: only regular ones are opened, and damage is told in our words."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from operators import kernels, masks

READERS = {"kernel": kernels.from_file, "mask": masks.from_file}


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_named_pipe_is_not_waited_for(tmp_path: Path, suffix: str, read) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / f"a{suffix}")
    with pytest.raises(OSError, match="not a regular file"):
        read(Path(os.devnull))
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_damage_of_a_mask_is_told_in_our_words(tmp_path: Path, format: str) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(file, format)
    for part in (0.1, 0.5, 0.8):
        (tmp_path / "a.png").write_bytes(file.getvalue()[: int(part * len(file.getvalue()))])
        with pytest.raises(ValueError, match=r"a\.png: (not a picture|the picture is damaged)"):
            masks.from_file(tmp_path / "a.png")


def test_other_programs_are_not_run_for_a_mask(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match="not a picture"):
        masks.from_file(tmp_path / "a.png")
