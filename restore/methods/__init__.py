"""Methods that solve inverse problems, one file and one record each."""

from restore.methods.ddrm import DDRM
from restore.methods.diffpir import DIFFPIR
from restore.methods.method import Method
from restore.methods.one_step import ONE_STEP
from restore.methods.sr3 import SR3

# In order of preference.
METHODS: dict[str, Method] = {method.name: method for method in (DDRM, DIFFPIR, SR3, ONE_STEP)}

__all__ = ["METHODS", "Method"]
