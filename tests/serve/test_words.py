"""What the page says of a result, in words."""

from __future__ import annotations

import pytest

from restore.serve.words import in_words


@pytest.mark.parametrize(
    ("consistency", "unexplained", "noise", "words"),
    [
        (0.001, 0.001, 0.01, "explains the picture"),
        (0.3, 0.2, 0.01, "does not explain the picture"),
        # ringing that black and white cut off
        (0.069, 0.017, 0.0037, "hardly explains the picture"),
        (0.069, 0.017, 0.0, "hardly explains the picture"),
    ],
)
def test_the_words_fit_the_misfit(consistency, unexplained, noise, words):
    report = {"consistency": consistency, "unexplained": unexplained, "noise": noise}
    said = in_words({**report, "method": "diffpir", "steps": 20})
    assert f"The result {words}" in said
    assert ("its noise is" in said) == (noise > 0 and "does not" not in words)
