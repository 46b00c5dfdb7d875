"""`make fuzz`: any request to webhook-ingest, any record to a worker. A failure is printed with how to repeat it.

Each batch has its own seed. A seed and a kind make the same cases on every machine.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Verbosity, given, seed, settings
from hypothesis import strategies as st

from safevideo_common.database.migrate import migrate
from safevideo_testkit.fuzz.cases import KINDS
from safevideo_testkit.fuzz.ingest import fuzzed_ingest
from safevideo_testkit.fuzz.records import fuzzed_processor, hostile_records

EXAMPLES_PER_BATCH = 200
RECORDS = "records"
"""The kind that goes to the processor of a worker."""


class Target(NamedTuple):
    """Generated cases, and the part of the system that gets them. `send` raises an error if that part fails."""

    cases: st.SearchStrategy[Any]
    send: Callable[[Any], None]


def main() -> None:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safevideo-fuzz-")))
            failed, sent = _run_batches(_targets(stack, folder), options)
    except AssertionError as error:
        sys.exit(str(error))
    print(", ".join(f"{kind} {number:,}" for kind, number in sent.items()), "sent,", failed, "failures")
    sys.exit(1 if failed else 0)


def _targets(stack: ExitStack, folder: Path) -> dict[str, Target]:
    for name in ("worker", "ingest"):
        (folder / name).mkdir()
    url = f"sqlite+aiosqlite:///{folder}/worker.db"
    asyncio.run(migrate(url))
    processor = stack.enter_context(fuzzed_processor(folder / "worker", url))
    ingest = stack.enter_context(fuzzed_ingest(folder / "ingest"))
    targets = {kind: Target(cases, ingest.send) for kind, cases in KINDS.items()}
    return targets | {RECORDS: Target(st.lists(hostile_records, min_size=1, max_size=4), processor.process)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration; the last batch is completed")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="seed of the first batch")
    parser.add_argument("--kind", choices=[*KINDS, RECORDS], action="append", help="may be repeated")
    return parser.parse_args()


def _run_batches(targets: Mapping[str, Target], options: argparse.Namespace) -> tuple[int, Counter[str]]:
    failed, number, sent = 0, options.seed, Counter[str]()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or number == options.seed:
        for kind in options.kind or targets:
            failed += not _run_batch(targets[kind], kind, number, sent)
        number += 1
    return failed, sent


def _run_batch(target: Target, kind: str, number: int, sent: Counter[str]) -> bool:
    smallest: dict[str, object] = {}

    @seed(number)
    @settings(
        max_examples=EXAMPLES_PER_BATCH,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def send(case: object) -> None:
        sent[kind] += 1
        try:
            target.send(case)
        except Exception as error:
            smallest[str(error)] = case  # hypothesis shrinks it
            raise

    try:
        send()
    except Exception:  # noqa: BLE001 - the program continues to find more
        _report(kind, number, smallest)
        return False
    return True


def _report(kind: str, number: int, smallest: dict[str, object]) -> None:
    """Print the failures and the command that repeats them. A request cannot be stored: its signed time expires."""
    for error, case in smallest.items():
        print(f"\n{kind}, seed {number}: {error}\n  {case}")
    print(f'  again: make fuzz ARGS="--kind {kind} --seed {number} --seconds 0"', flush=True)


if __name__ == "__main__":
    main()
