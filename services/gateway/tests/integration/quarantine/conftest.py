"""A quarantine as the door has filled it, on each kind of database."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Final

import orjson
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select

from gateway.settings import GatewaySettings
from safevideo_common.audit.store import AuditEntry, AuditFilter, Caller, find
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import rejected_webhooks as table
from safevideo_common.encryption import Cipher, EncryptionKeys, Purpose
from safevideo_common.events.topics import RETENTION_DAYS, all_topics
from safevideo_common.quarantine import store as quarantine_store
from safevideo_common.quarantine.store import Rejection
from safevideo_testkit.http import Api

SECRET: Final = "the-secret-as-mended"
KEY: Final = Fernet.generate_key().decode()
START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
TRACE: Final = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def body(number: int, performer: str = "sg_1", **more: object) -> bytes:
    data = {"performerId": performer, "changes": {"email": "jane@example.com", "username": f"jane-{number}"}}
    whole = {"event": "performer.profile.updated", "timestamp": "2026-11-24T11:59:59Z", "data": data}
    return orjson.dumps(whole | more)


def signature(sent: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.digest(secret.encode(), sent, "sha256").hex()


@dataclass(slots=True)
class Quarantine:
    """What the door has kept: each webhook came a second after the one before."""

    database: Database
    cipher: Cipher
    key: str
    sent: list[bytes] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    async def keep(
        self, sent: bytes, *, headers: Mapping[str, str] | None = None, secret: str = SECRET, **other: object
    ) -> int:
        """Keep one that is rightly signed with `secret`, unless `headers` say otherwise; gives its row id."""
        number = next(self._numbers)
        at = START + timedelta(seconds=number)
        signed = {"X-Sharegram-Signature": signature(sent, secret), "X-Sharegram-Event-Id": f"evt-{number}"}
        kept = {name: [value] for name, value in (signed if headers is None else headers).items()}
        row = Rejection(
            f"{number:064}", at, at, 1, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram",
            kept | {"traceparent": [TRACE]}, self.cipher.encrypt(sent, f"{number:064}"), sha256(sent).hexdigest(),
            len(sent), "192.0.2.1", f"request-{number}",
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await quarantine_store.add(tx, [row._replace(**other)])  # type: ignore[arg-type]  # as a test wants it
        self.sent.append(sent)
        return await self._id_of(row.fingerprint)

    async def keep_many(self, number: int, performer: str = "sg_1") -> list[int]:
        return [await self.keep(body(each, performer)) for each in range(number)]

    async def released(self) -> list[int]:
        """Row ids in order of reception."""
        async with self.database.read_connection() as reading:
            rows = select(table.c.id).where(table.c.released_at.is_not(None)).order_by(table.c.received_at)
            return list(await reading.scalars(rows))

    async def audited(self) -> list[AuditEntry]:
        """In order."""
        async with self.database.read_connection() as reading:
            records, _ = await find(reading, AuditFilter(), page=1, limit=100, order="asc")
        return [record.entry for record in records]

    async def _id_of(self, fingerprint: str) -> int:
        async with self.database.read_connection() as reading:
            found: int = (await reading.scalars(select(table.c.id).where(table.c.fingerprint == fingerprint))).one()
        return found


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    mended = {"encryption_key": SecretStr(KEY), "sharegram_webhook_secret": SecretStr(f"{SECRET},an-older-secret")}
    return settings.model_copy(update=mended)


@pytest.fixture
def quarantine(database: Database) -> Quarantine:
    return Quarantine(database, EncryptionKeys.parse(KEY).cipher(Purpose.QUARANTINED_WEBHOOK), KEY)


@pytest.fixture
async def records(embedded_broker: Broker) -> AsyncIterator[Callable[[], Awaitable[list[Record]]]]:
    """What the log has, in order within each partition."""
    await embedded_broker.create_topics(all_topics())
    async with embedded_broker.reader("test") as reader:

        async def read() -> list[Record]:
            ends = [await reader.end_offsets(topic) for topic in RETENTION_DAYS]
            places = [place for topic in ends for place, end in topic.items() if end]
            return [record for place in places for record in await reader.read(place, 0, 1000)]

        yield read


@pytest.fixture
def caller() -> Caller:
    return Caller("ops", "admin", "192.0.2.9", "request-of-ops")


@pytest.fixture
def reverify(
    gateway: Api,
    admin: dict[str, str],
    records: object,  # the log must have its topics
) -> Callable[..., Awaitable[tuple[int, dict[str, object]]]]:
    """Asks for a run; gives the status and the answer's body."""

    async def ask(**asked: object) -> tuple[int, dict[str, object]]:
        return await post(gateway, asked, admin)

    return ask


async def post(api: Api, asked: object, headers: Mapping[str, str]) -> tuple[int, dict[str, object]]:
    raw = asked if isinstance(asked, bytes) else orjson.dumps(asked)
    path = f"{api.base_url}/api/v1/admin/webhooks/rejected/reverify"
    async with api.session.post(path, data=raw, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read())
