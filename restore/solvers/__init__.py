"""Solvers: reverse processes with a measurement, one method a file."""

from restore.diffusion.stepping import Step
from restore.solvers.conjugate_pigdm import conjugate_pigdm
from restore.solvers.consistency import project
from restore.solvers.daps import daps
from restore.solvers.ddnm import ddnm
from restore.solvers.ddpg import ddpg
from restore.solvers.ddrm import ddrm
from restore.solvers.ddrm_border import ddrm_unknown_border
from restore.solvers.diffpir import diffpir
from restore.solvers.dpir import dpir
from restore.solvers.dps import dps
from restore.solvers.i2sb import i2sb
from restore.solvers.latent_daps import latent_daps
from restore.solvers.latent_dps import latent_dps
from restore.solvers.pigdm import pigdm
from restore.solvers.pnp_dm import pnp_dm
from restore.solvers.psld import psld
from restore.solvers.red_diff import red_diff
from restore.solvers.repaint import repaint
from restore.solvers.resample import resample
from restore.solvers.snips import snips
from restore.solvers.sr3 import one_step, sr3

__all__ = [
    "Step",
    "conjugate_pigdm",
    "daps",
    "ddnm",
    "ddpg",
    "ddrm",
    "ddrm_unknown_border",
    "diffpir",
    "dpir",
    "dps",
    "i2sb",
    "latent_daps",
    "latent_dps",
    "one_step",
    "pigdm",
    "pnp_dm",
    "project",
    "psld",
    "red_diff",
    "repaint",
    "resample",
    "snips",
    "sr3",
]
