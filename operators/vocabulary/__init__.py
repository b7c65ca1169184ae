"""The words of `operators.text`: every degradation that can be written.

A `Word` has a name, parameters, and what builds the operator. A new operator is a file beside the
others, with its word at the end (`operators.grammar` and `operators.parameters` have what it is
made of), and a line in the list below. Words with a family, such as blurs by a kernel, stand in the
family's file here.
"""

from __future__ import annotations

from operators.axes import identity
from operators.grammar import Word
from operators.vocabulary import (
    color,
    convolution,
    masks,
    nonlinear,
    reference,
    resample,
    sensing,
)

IDENTITY = Word("identity", "the picture itself, for denoising", (), identity, "identity")

# In the order of a listing.
_WORDS = (
    IDENTITY,
    convolution.GAUSSIAN,
    convolution.BOX,
    convolution.MOTION,
    convolution.SHAKE,
    convolution.DISK,
    convolution.FILE,
    resample.BICUBIC,
    resample.AREA,
    resample.LANCZOS,
    masks.FILE,
    masks.RANDOM,
    masks.STROKES,
    masks.BOX,
    masks.BORDER,
    masks.LINES,
    masks.CHECKERBOARD,
    masks.GRID,
    color.GRAY,
    color.MIX,
    color.BAYER,
    color.XTRANS,
    color.CFA,
    sensing.HADAMARD,
    sensing.BLOCKS,
    sensing.FOURIER,
    nonlinear.QUANTISE,
    nonlinear.JPEG,
    *reference.REFERENCES,
)

# Words by their names.
WORDS: dict[str, Word] = {word.name: word for word in _WORDS}
