"""Texts in bodies that people type for others to read: none has a character that a terminal obeys."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from safevideo_common.domain.sentences import MAX_SENTENCE, is_printable, is_sentence


def _one_line(value: str) -> str:
    if not is_sentence(value):
        raise ValueError(f"must be one line of 1 to {MAX_SENTENCE} printable characters")
    return value


def _lines(value: str) -> str:
    lines = value.replace("\r\n", "\n")
    if not all(each in "\n\t" or is_printable(each) for each in lines):
        raise ValueError("must be lines of printable characters")
    return lines


Sentence = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_SENTENCE, strip_whitespace=True),
    AfterValidator(_one_line),
]
"""A reason: one line."""

Lines = Annotated[str, AfterValidator(_lines)]
"""Notes: lines with line feeds between them."""
