"""The webhooks of the benchmarks: 1 kB each, for 500 performers."""

import hmac
from collections.abc import Iterator
from pathlib import Path

import orjson

PERFORMERS = 500
BODY_BYTES = 1024
SECRET = "the-secret-of-the-benchmark"


def bodies(count: int) -> Iterator[tuple[str, bytes]]:
    """Performer and body. Every event differs, and is newer than those before it."""
    for number in range(count):
        performer_id = f"sg_{number % PERFORMERS}"
        yield performer_id, _body(performer_id, number)


def write_requests(path: Path, count: int, secret: str = SECRET) -> None:
    """One line a request, as `webhooks.lua` reads it."""
    with path.open("wb") as lines:
        for _, body in bodies(count):
            signature = hmac.digest(secret.encode(), body, "sha256").hex()
            lines.write(b"sha256=%s\t%s\n" % (signature.encode(), body))


def _body(performer_id: str, number: int) -> bytes:
    changes = {"username": f"user-{number}", "displayName": f"Name {number}", "verified": number % 2 == 0, "bio": ""}
    event = {
        "id": f"evt-{number}",
        "event": "performer.profile.updated",
        "timestamp": "2026-11-24T12:00:00Z",
        "data": {"performerId": performer_id, "version": number, "changes": changes},
    }
    changes["bio"] = "b" * (BODY_BYTES - len(orjson.dumps(event)))
    return orjson.dumps(event)
