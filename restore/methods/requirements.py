"""What methods require of an operator."""

from __future__ import annotations

from operators import LinearOperator, ValidConvolution
from restore.tasks.problem import Operator

# `takes_linear` in words, for `restore.methods.method.Method.operators`.
LINEAR = "linear operators"
# `takes_decomposed` in words.
DECOMPOSED = "operators with an SVD and blurs with an unknown border"


def takes_linear(operator: Operator) -> bool:
    """Return True if the operator is linear."""
    return isinstance(operator, LinearOperator)


def takes_decomposed(operator: Operator) -> bool:
    """Return True if the operator has an SVD, or is a blur with an unknown border.

    Such a blur is circular on a larger canvas, see `restore.solvers.ddrm_border`.
    """
    return operator.has_svd or isinstance(operator, ValidConvolution)
