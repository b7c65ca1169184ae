"""The geometric self-ensemble: answers to a picture turned and reflected, averaged.

A network knows no direction of its own after a training with turned and reflected pictures, yet its
answers to them differ by errors, of which the mean has fewer (Timofte, Rothe, Van Gool 2016,
"Seven ways to improve example-based single image super resolution", arXiv 1511.02228: enhanced
prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """A symmetry of the square.

    Attributes:
        quarters: Quarter turns.
        mirrored: True to swap left and right after them.
    """

    quarters: int
    mirrored: bool

    def of(self, pictures: Tensor) -> Tensor:
        """Turn and reflect pictures [..., H, W]."""
        turned = torch.rot90(pictures, self.quarters, (-2, -1)) if self.quarters else pictures
        return turned.flip(-1) if self.mirrored else turned

    def undone(self, pictures: Tensor) -> Tensor:
        """Return pictures [..., H, W] from their view."""
        turned = pictures.flip(-1) if self.mirrored else pictures
        return torch.rot90(turned, -self.quarters, (-2, -1)) if self.quarters else turned


# All eight: the picture itself, its transpose, half a turn, that transposed, and the other four.
VIEWS = tuple(
    View(quarters, mirrored)
    for quarters, mirrored in (
        (0, False),
        (3, True),
        (2, False),
        (1, True),
        (0, True),
        (1, False),
        (2, True),
        (3, False),
    )
)


def running_means(answer: Callable[..., Tensor], count: int, *pictures: Tensor) -> Iterator[Tensor]:
    """Yield the mean answer over the first view of pictures, over the first two, and so on.

    Args:
        answer: Map from pictures to one picture of their size, [..., H, W] each.
        count: Number of views, 1 to 8; the first is the pictures themselves.
        pictures: What it is asked about, turned and reflected together.
    """
    views = VIEWS[:count]
    answers = (view.undone(answer(*map(view.of, pictures))) for view in views)
    for number, total in enumerate(accumulate(answers), start=1):
        yield total if number == 1 else total / number
