"""`make fuzz`: sends the door every kind of request for as long as asked, and says how to send again what went wrong.

It goes in rounds, each with a seed of its own; a seed and a kind make the same requests on every machine.
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
from safevideo_testkit.fuzz.ingest import FuzzedDoor, fuzzed_door

EXAMPLES_OF_A_ROUND = 200


def main() -> None:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="safevideo-fuzz-") as folder, fuzzed_door(Path(folder)) as door:
            failed, sent = _rounds(door, options)
    except AssertionError as error:
        sys.exit(str(error))
    print(", ".join(f"{kind} {number:,}" for kind, number in sent.items()), "requests sent,", failed, "failures")
    sys.exit(1 if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; the round that is begun is finished")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of the first round")
    parser.add_argument("--kind", choices=KINDS, action="append", help="one kind of request; may be repeated")
    return parser.parse_args()


def _rounds(door: FuzzedDoor, options: argparse.Namespace) -> tuple[int, Counter[str]]:
    failed, number, sent = 0, options.seed, Counter[str]()
    ends = time.monotonic() + options.seconds
    while time.monotonic() < ends or number == options.seed:
        for kind in options.kind or KINDS:
            failed += not _round_holds(door, kind, number, sent)
        number += 1
    return failed, sent


def _round_holds(door: FuzzedDoor, kind: str, number: int, sent: Counter[str]) -> bool:
    smallest: dict[str, Case] = {}

    @seed(number)
    @settings(
        max_examples=EXAMPLES_OF_A_ROUND,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def ask(case: Case) -> None:
        sent[kind] += 1
        try:
            door.ask(case)
        except Exception as error:
            smallest[str(error)] = case  # hypothesis tries smaller and smaller ones
            raise

    try:
        ask()
    except Exception:  # noqa: BLE001 - the program goes on to find more
        _report(kind, number, smallest)
        return False
    return True


def _report(kind: str, number: int, smallest: dict[str, Case]) -> None:
    """What failed, and the command that sends it again: a request cannot be kept, since its signed time grows old."""
    for error, case in smallest.items():
        print(f"\n{kind}, seed {number}: {error}\n  {case}")
    print(f'  again: make fuzz ARGS="--kind {kind} --seed {number} --seconds 0"', flush=True)


if __name__ == "__main__":
    main()
