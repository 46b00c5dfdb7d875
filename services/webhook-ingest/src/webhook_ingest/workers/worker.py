"""What a worker knows of itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several. `number` counts from 1 and stays the same when it is started again: so does its spool."""

    number: int
    count: int
    folder: Path
    """Shared by the workers of one parent, private to them, and gone with it."""
