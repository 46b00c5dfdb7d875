"""A key ring, and a database with secrets, on SQLite and on the MySQL family."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import Cipher, EncryptionKeys, Purpose
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import environment_secrets
from safevideo_testkit.eventually import FakeClock
from webhook_ingest.secrets import KeyRing


async def reconnect(database: Database) -> None:
    """Replace a connection that ended when a test killed the server."""
    with suppress(DatabaseUnavailable):
        await database.probe()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def encryption_key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def cipher(encryption_key: str) -> Cipher:
    return EncryptionKeys.parse(encryption_key).cipher(Purpose.WEBHOOK_SECRET)


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing(environment_secrets("the-secret-of-the-environment"))


@pytest.fixture
def store_secret(database: Database, clock: FakeClock, cipher: Cipher) -> Callable[..., Awaitable[None]]:
    """Stores a secret in the database, as the rotation API will."""

    async def store_secret(
        name: str, key: bytes = b"a-secret-of-the-database", *, lasts: timedelta | None = None, ciphertext: bytes = b""
    ) -> None:
        expires_at = None if lasts is None else clock.now + lasts
        row = webhook_secrets.encryption_row(SHAREGRAM, name)
        ciphertext = ciphertext or cipher.encrypt(key, row)
        await reconnect(database)
        async with database.transaction() as tx:
            integration = await integrations.ensure(tx, SHAREGRAM, clock.now)
            await webhook_secrets.add(tx, integration, name, ciphertext, clock.now, expires_at)

    return store_secret


@pytest.fixture
def find_all(database: Database) -> Callable[[], Awaitable[Mapping[str, SecretRow]]]:
    """Returns the secrets as operators see them, by name."""

    async def find_all() -> Mapping[str, SecretRow]:
        await reconnect(database)
        async with database.read_connection() as reading:
            return {secret.name: secret for secret in await webhook_secrets.find_all(reading, SHAREGRAM)}

    return find_all


@pytest.fixture
def lines(log: FilteringBoundLogger, logs: Path) -> Callable[[], list[str]]:
    """Returns the lines logged until now."""

    def lines() -> list[str]:
        log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
        return [line for line in (logs / "app.log").read_text().splitlines() if " LOOK " not in line]

    return lines
