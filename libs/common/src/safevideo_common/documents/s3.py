"""Files of documents as objects of S3, or of another service with its API.

The client is obstore. It signs, retries and runs outside of the event loop. It is the one owner of retries: server
errors and lost connections, at most `RETRIES` times within `RETRY_SECONDS`. It repeats no write whose outcome is
unknown.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from obstore.exceptions import BaseError
from obstore.store import S3Store

from safevideo_common.documents.files import MARK_NAME, NAME, check_size, mark_of, path_of, unavailable_on

if TYPE_CHECKING:  # obstore has these names in its stubs only
    from obstore import ListStream, ObjectMeta
    from obstore.store import S3Config

RETRIES: Final = 2
RETRY_SECONDS: Final = 10.0
"""No repetition begins later after the first attempt."""
PAGE: Final = 1000
"""Objects of one listing, which is the maximum of S3."""
HEX_DIGITS: Final = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and how it is reached. Without an endpoint it is at AWS.

    Without keys the client takes those of its environment: the role of the pod, of the container or of the machine.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class S3Timeouts:
    """The time that one attempt and that a whole call may take, in seconds."""

    attempt: float = 10.0
    call: float = 15.0


DEFAULT_TIMEOUTS: Final = S3Timeouts()


class S3FileStore:
    """Objects of one bucket: `FileStore`, `FileInventory`, `MarkedStore`. Objects under other names are left alone."""

    def __init__(self, bucket: Bucket, timeouts: S3Timeouts = DEFAULT_TIMEOUTS, page: int = PAGE) -> None:
        self._timeouts = timeouts
        self._page = page
        self._store = _open(bucket, timeouts)

    async def put(self, name: str, content: bytes) -> None:
        """See `FileStore`."""
        with self._unavailable():
            async with asyncio.timeout(self._timeouts.call):
                # One request, so there is no half of an object.
                await self._store.put_async(path_of(name), content, mode="create", use_multipart=False)

    async def get(self, name: str) -> bytes | None:
        """See `FileStore`."""
        return await self._read(path_of(name))

    async def delete_file(self, name: str) -> None:
        """See `FileStore`."""
        with self._unavailable():
            async with asyncio.timeout(self._timeouts.call):
                await self._store.delete_async(path_of(name))

    async def read_mark(self) -> str | None:
        """See `MarkedStore`."""
        found = await self._read(MARK_NAME)
        return None if found is None else mark_of(found)

    async def write_mark(self, mark: str) -> None:
        """See `MarkedStore`."""
        with self._unavailable():
            async with asyncio.timeout(self._timeouts.call):
                await self._store.put_async(MARK_NAME, mark.encode(), mode="overwrite", use_multipart=False)

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """See `FileInventory`. Objects are listed page by page."""
        found: dict[str, datetime] = {}
        for second in HEX_DIGITS:
            pages = self._store.list(digit + second, chunk_size=self._page)
            while page := await self._next(pages):
                for each in page:
                    name = each["path"].rpartition("/")[2]
                    if NAME.fullmatch(name) and each["path"] == path_of(name):
                        found[name] = each["last_modified"]
        return found

    async def _read(self, path: str) -> bytes | None:
        with self._unavailable():
            async with asyncio.timeout(self._timeouts.call):
                try:
                    found = await self._store.get_async(path)
                    check_size(found.meta["size"])
                    return bytes(await found.bytes_async())
                except FileNotFoundError:
                    await self._require_bucket()
                    return None

    async def _require_bucket(self) -> None:
        """Raise an error if there is no bucket: then nothing is known about an object in it."""
        await anext(self._store.list("none", chunk_size=1), None)

    async def _next(self, pages: "ListStream[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta] | None":
        with self._unavailable():
            async with asyncio.timeout(self._timeouts.call):
                return await anext(pages, None)

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        # OSError: an expired timeout, and the 404 of a bucket.
        with unavailable_on(BaseError, OSError):
            yield


def _open(bucket: Bucket, timeouts: S3Timeouts) -> S3Store:
    """Return the client. It opens no connection yet."""
    config: S3Config = {
        "region": bucket.region,
        # So the certificate of one name is enough, and a bucket may have dots in its name.
        "virtual_hosted_style_request": False,
        # The request for many objects at once does not exist everywhere. We delete one at a time.
        "disable_bulk_delete": True,
    }
    if bucket.endpoint:
        config["endpoint"] = bucket.endpoint
    if bucket.access_key_id:
        config["access_key_id"] = bucket.access_key_id
        config["secret_access_key"] = bucket.secret_access_key
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": bucket.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=timeouts.attempt),
            "connect_timeout": timedelta(seconds=min(2.0, timeouts.attempt)),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
    )
