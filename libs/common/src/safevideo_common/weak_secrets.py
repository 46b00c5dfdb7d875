"""Recognition of secrets that were not made at random: examples, placeholders, sequences, repetitions."""

import re
from base64 import b64decode
from contextlib import suppress
from typing import Final

MIN_SECRET_LENGTH: Final = 16
_MIN_REST: Final = 8
"""Characters that must be left without known words, sequences and repetitions."""
_MIN_DISTINCT: Final = 5

_WORD: Final = re.compile(
    "placeholder|development|production|integration|sharegram|safevideo|passphrase|whsec|webhook|password|passwd|"
    "secret|private|default|example|sample|testing|insert|replaceme|replace|changeme|change|update|please|string|"
    "random|value|token|admin|root|user|login|super|dummy|fixme|todo|later|enter|goes|here|your|must|this|that|some|with|test|local|"
    "prod|qwerty|letmein|welcome|deadbeef|cafebabe|foobar|pass|"
    "(?<![a-z])(?:key|set|the|my|me|to|be|is|of|in|it)(?![a-z])"
)
_PUBLISHED: Final = ("mfkq9r8gkyqrtwjupd8ilpzio2lalasw",)
"""Secrets of the Standard Webhooks documentation."""


def explain_weak_secret(secret: str) -> str | None:
    """Return why `secret` is too weak for production, or None."""
    if len(secret) < MIN_SECRET_LENGTH:
        return f"is shorter than {MIN_SECRET_LENGTH} characters"
    if is_default_looking(secret):
        return "looks like a default"
    return None


def is_default_looking(secret: str) -> bool:
    """Return True for a text, or base64 or hex of one, that consists of known words, sequences or repetitions."""
    text = secret.lower()
    is_published = any(each in text for each in _PUBLISHED)
    return is_published or _is_poor(_WORD.sub("", text).encode()) or any(map(_is_poor_content, _decoded(secret)))


def _is_poor_content(content: bytes) -> bool:
    return _is_poor(_WORD.sub("", content.decode().lower()).encode() if content.isascii() else content)


def _is_poor(rest: bytes) -> bool:
    rest = _first_period(bytes(each for each in rest if each not in b" _-.,!?#$%&*"))
    counted = [each for i, each in enumerate(rest) if i < 2 or not _goes_on(rest[i - 2], rest[i - 1], each)]
    return len(counted) < _MIN_REST or len(set(counted)) < _MIN_DISTINCT


def _goes_on(first: int, second: int, third: int) -> bool:
    return second - first == third - second and abs(third - second) <= 1


def _first_period(text: bytes) -> bytes:
    return text[: (text + text).find(text, 1)] if text else text


def _decoded(secret: str) -> list[bytes]:
    found = []
    encoded = secret.removeprefix("whsec_").encode(errors="replace")
    with suppress(ValueError):
        found.append(b64decode(encoded.translate(bytes.maketrans(b"-_", b"+/")), validate=True))
    with suppress(ValueError):
        found.append(bytes.fromhex(secret))
    return [each for each in found if len(each) >= _MIN_REST]
