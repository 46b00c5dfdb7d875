"""`webhook-ingest` with a sampler in it: `python sampled.py FILE`. SIGUSR1 begins; the second one ends and writes FILE.

Every two milliseconds of the process's CPU time the kernel asks where it is; waiting costs no time and so is no sample.
FILE has one line a stack, `outermost;…;innermost count`, which flame graphs are drawn from too. Python looks at signals
between two of its own instructions: what C code spends is counted where it returns to.
"""

import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from webhook_ingest.__main__ import main

INTERVAL_SECONDS: Final = 0.002
DEEPEST: Final = 30

Stack = tuple[str, ...]


class Sampler:
    """Counts the stacks that it meets."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stacks: Counter[Stack] = Counter()

    def install(self) -> None:
        """To be told by signals. Nothing is sampled yet."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)  # the service has its own use for SIGUSR2

    def _begin(self, _signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGUSR1, self._end)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame is not None and len(names) < DEEPEST:
            names.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            frame = frame.f_back
        self._stacks[tuple(reversed(names))] += 1

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        unfinished = self._file.with_suffix(".part")
        lines = (f"{';'.join(stack)} {count}\n" for stack, count in self._stacks.most_common())
        unfinished.write_text("".join(lines))
        unfinished.rename(self._file)


if __name__ == "__main__":
    Sampler(Path(sys.argv.pop())).install()
    main()
