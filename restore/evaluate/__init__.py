"""`restore evaluate`: measure how well every method restores the pictures of a folder.

>>> result = evaluate(Path("photos"), Settings("sr", scale=4), Outputs())  # doctest: +SKIP
>>> print(result.markdown())  # doctest: +SKIP
"""

from restore.evaluate.result import Evaluation, Outputs
from restore.evaluate.run import command, evaluate
from restore.evaluate.settings import Settings

__all__ = ["Evaluation", "Outputs", "Settings", "command", "evaluate"]
