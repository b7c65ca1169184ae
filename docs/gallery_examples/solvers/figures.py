"""Makes `gallery_pictures`, one folder up, importable by the scripts of this one."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from gallery_pictures import compare, middle, photograph, pixels, psnr, show

__all__ = ["compare", "middle", "photograph", "pixels", "psnr", "show"]
