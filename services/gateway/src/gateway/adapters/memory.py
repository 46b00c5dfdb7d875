"""How much memory this process holds."""

import os
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 1 << 30
_STATM: Final = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Physical memory in use, or None where the operating system does not say (anything but Linux)."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
