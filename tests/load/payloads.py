"""The webhooks of the benchmarks: 1 kB each."""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import orjson

from safevideo_common.broker.types import Message
from safevideo_common.clock import utc_now
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import PERFORMER

PERFORMERS = 500
BODY_BYTES = 1024
SECRET = "the-secret-of-the-benchmark"


@dataclass(frozen=True)
class Keys:
    """Which performer each event is of: every one in turn; with `hot`, one event in ten is of the same one."""

    count: int = PERFORMERS
    hot: bool = False

    def of(self, number: int) -> str:
        """The Sharegram id of the performer."""
        return "sg_0" if self.hot and number % 10 == 0 else f"sg_{number % self.count}"


def event_id(number: int) -> str:
    """One half lie anywhere in an index, as random ids do; the other half follow each other, as ordered ids do."""
    return md5(b"%d" % number).hexdigest() if number % 2 else f"evt-{number:028d}"


def bodies(numbers: Iterable[int], keys: Keys) -> Iterator[tuple[str, bytes]]:
    """Performer and body. Every event differs, and is newer than those with a smaller number."""
    for number in numbers:
        performer_id = keys.of(number)
        yield performer_id, _body(performer_id, number)


def messages(numbers: Sequence[int], keys: Keys) -> Iterator[Message]:
    """What the door makes of them."""
    for number, (performer_id, body) in zip(numbers, bodies(numbers, keys), strict=True):
        envelope = Envelope(event_id(number), "performer.profile.updated", utc_now(), performer_id, f"request-{number}")
        yield Message(PERFORMER, performer_id.encode(), body, envelope.headers())


def signature(body: bytes, secret: str = SECRET) -> str:
    """The value of `X-Sharegram-Signature`."""
    return f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"


def write_requests(path: Path, count: int, secret: str = SECRET) -> None:
    """One line a request, as `webhooks.lua` reads it."""
    with path.open("wb") as lines:
        for _, body in bodies(range(count), Keys()):
            lines.write(b"%s\t%s\n" % (signature(body, secret).encode(), body))


def _body(performer_id: str, number: int) -> bytes:
    changes = {"username": f"user-{number}", "displayName": f"Name {number}", "verified": number % 2 == 0, "bio": ""}
    event = {
        "id": event_id(number),
        "event": "performer.profile.updated",
        "timestamp": "2026-11-24T12:00:00Z",
        "data": {"performerId": performer_id, "version": number, "changes": changes},
    }
    changes["bio"] = "b" * (BODY_BYTES - len(orjson.dumps(event)))
    return orjson.dumps(event)
