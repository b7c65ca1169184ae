"""Refusals of files, in words for the user: what is wrong, and what to do."""

from __future__ import annotations

DEVELOP = (
    "develop it first, with restore develop or for example darktable or RawTherapee, and restore "
    "the TIFF or PNG"
)


class Unreadable(ValueError):
    """A file is damaged, or of a kind that is not supported; the text is for the user."""


class Damaged(Unreadable):
    """The content of a file is damaged, which a cut may have done: see `Truncated`."""


class Truncated(Unreadable):
    """A file ends before its picture does."""

    def __init__(self, can_be_allowed: bool = False) -> None:
        remedy = "; `allow_truncated` restores what is there" if can_be_allowed else ""
        super().__init__(f"the file ends before its picture does{remedy}")


def not_read(title: str, advice: str) -> str:
    """Word the refusal of a known kind of file.

    Args:
        title: What it is, with an article.
        advice: What to do, as an imperative.
    """
    return f"{title}, which is not read: {advice}"
