"""`make fuzz`: send every kind of request to webhook-ingest, and print how to repeat a failure.

Each batch has its own seed. A seed and a kind make the same requests on every machine.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Verbosity, given, seed, settings

from safevideo_testkit.fuzz.cases import KINDS, Case
from safevideo_testkit.fuzz.ingest import FuzzedIngest, fuzzed_ingest

EXAMPLES_PER_BATCH = 200


def main() -> None:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="safevideo-fuzz-") as folder, fuzzed_ingest(Path(folder)) as ingest:
            failed, sent = _run_batches(ingest, options)
    except AssertionError as error:
        sys.exit(str(error))
    print(", ".join(f"{kind} {number:,}" for kind, number in sent.items()), "requests sent,", failed, "failures")
    sys.exit(1 if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration; the last batch is completed")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="seed of the first batch")
    parser.add_argument("--kind", choices=KINDS, action="append", help="kind of requests; may be repeated")
    return parser.parse_args()


def _run_batches(ingest: FuzzedIngest, options: argparse.Namespace) -> tuple[int, Counter[str]]:
    failed, number, sent = 0, options.seed, Counter[str]()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or number == options.seed:
        for kind in options.kind or KINDS:
            failed += not _run_batch(ingest, kind, number, sent)
        number += 1
    return failed, sent


def _run_batch(ingest: FuzzedIngest, kind: str, number: int, sent: Counter[str]) -> bool:
    smallest: dict[str, Case] = {}

    @seed(number)
    @settings(
        max_examples=EXAMPLES_PER_BATCH,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def send(case: Case) -> None:
        sent[kind] += 1
        try:
            ingest.send(case)
        except Exception as error:
            smallest[str(error)] = case  # hypothesis shrinks it
            raise

    try:
        send()
    except Exception:  # noqa: BLE001 - the program continues to find more
        _report(kind, number, smallest)
        return False
    return True


def _report(kind: str, number: int, smallest: dict[str, Case]) -> None:
    """Print the failures and the command that repeats them. A request cannot be stored: its signed time expires."""
    for error, case in smallest.items():
        print(f"\n{kind}, seed {number}: {error}\n  {case}")
    print(f'  again: make fuzz ARGS="--kind {kind} --seed {number} --seconds 0"', flush=True)


if __name__ == "__main__":
    main()
