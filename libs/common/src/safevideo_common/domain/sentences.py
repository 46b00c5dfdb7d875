"""Texts that people type for others to read: what a terminal or a page shows as it is, and hides nothing."""

import unicodedata
from typing import Final

MAX_SENTENCE: Final = 255
"""The length of a reason, which is the length of its column."""


def is_printable(character: str) -> bool:
    """Return whether a character is shown: no control, no mark that hides or reverses others, no half of one.

    All spaces are, such as the one of Japanese, which `str.isprintable` refuses.
    """
    return character.isprintable() or unicodedata.category(character) == "Zs"


def is_sentence(text: str, longest: int = MAX_SENTENCE) -> bool:
    """Return whether `text` is one line with something to read, of at most `longest` characters."""
    return 0 < len(text.strip()) <= longest and all(map(is_printable, text))
