"""Rotation of the secret that signs Sharegram's webhooks.

A rotation stores a new secret and lets the stored ones before it expire after an overlap. `webhook-ingest` reads the
table every few seconds, and at once after an invalid signature. Secrets of the environment stay valid: only whoever
deploys can take one away.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, rfc3339
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import InvalidStatusTransition, ServiceUnavailable
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import MAX_VALID
from safevideo_common.webhooks.signatures.secret import STANDARD_PREFIX

ROTATED: Final = "webhooks.secret_rotated"
TARGET: Final = f"integration:{SHAREGRAM}"

SECRET_BYTES: Final = 32
MIN_INTERVAL: Final = timedelta(minutes=1)
"""Between two rotations: of two at once, the second would replace a secret that nobody has used yet."""

Encrypt = Callable[[str, bytes], bytes]
"""Encrypts a secret for its row."""


@dataclass(frozen=True, slots=True)
class RotatedSecret:
    """A new secret, which is shown once, and the stored secrets that expire at `overlap_until`."""

    name: str
    secret: str = field(repr=False)
    overlap_until: datetime
    replaced: Sequence[str]


class SecretRotation:
    """Rotates the secret. Without `encrypt`, which needs `ENCRYPTION_KEY`, nothing can be stored."""

    def __init__(self, database: Database, encrypt: Encrypt | None, clock: Clock) -> None:
        self._database = database
        self._encrypt = encrypt
        self._clock = clock

    async def rotate(self, overlap: timedelta, caller: Caller) -> RotatedSecret:
        """Store a new secret; the old ones are valid for `overlap` more.

        Raises `InvalidStatusTransition` less than `MIN_INTERVAL` after the last rotation or with `MAX_VALID` valid
        secrets, `ServiceUnavailable` without an encryption key, and the errors of the database.
        """
        if self._encrypt is None:
            raise ServiceUnavailable("ENCRYPTION_KEY is not set here, so no secret can be stored.")
        return await retry_on_conflict(partial(self._rotate, self._encrypt, overlap, caller))

    async def _rotate(self, encrypt: Encrypt, overlap: timedelta, caller: Caller) -> RotatedSecret:
        now = self._clock()
        secret = STANDARD_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        name = f"rotated-{now:%Y%m%d}-{secrets.token_hex(3)}"
        async with self._database.transaction() as tx:
            integration_id = await integrations.ensure(tx, SHAREGRAM, now)
            await integrations.lock(tx, integration_id)
            stored = [row for row in await webhook_secrets.find_all(tx, SHAREGRAM) if row.is_stored]
            valid = [row for row in stored if row.is_valid(now)]
            if any(now - row.created_at < MIN_INTERVAL for row in stored):
                raise InvalidStatusTransition("The secret was rotated less than a minute ago.")
            if len(valid) >= MAX_VALID:
                raise InvalidStatusTransition(f"There are {MAX_VALID} valid secrets; wait until one has expired.")
            until = now + overlap
            await webhook_secrets.expire(tx, integration_id, now, until)
            row = webhook_secrets.encryption_row(SHAREGRAM, name)
            await webhook_secrets.add(tx, integration_id, name, encrypt(row, secret.encode()), now)
            replaced = [row.name for row in valid]
            details = {"name": name, "replaced": replaced, "overlapUntil": rfc3339(until)}
            await audit_store.record(tx, caller.entry(ROTATED, self._clock, details, TARGET))
        return RotatedSecret(name, secret, until, replaced)
