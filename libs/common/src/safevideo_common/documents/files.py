"""The files of documents: encrypted, each bound to its row, in a store that keeps bytes by name.

A file is written before its row. So a row always has its file, and a file without a row belongs to an upload that is
not finished, or that failed.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol

from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import SafeVideoError

_NAME: Final = re.compile(r"[0-9a-f]{32}(\.new)?")
_UNFINISHED: Final = ".new"
"""The end of the name of a file that is being written, or whose writer was killed."""


class DocumentUnreadable(SafeVideoError):
    """The file of a document is missing, damaged, or belongs to another row. An operator restores it."""

    code = "DOCUMENT_UNREADABLE"


class DocumentMissing(DocumentUnreadable):
    """The file of a document is missing."""


class FileStore(Protocol):
    """Bytes by name. A name is 32 hexadecimal digits."""

    async def put(self, name: str, content: bytes) -> None:
        """Write a file that survives a crash once this returns. Raises `OSError`."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return the content, or None if there is no such file. Raises `OSError`."""
        ...

    async def delete(self, name: str) -> None:
        """Delete the file if there is one. Raises `OSError`."""
        ...


class FileInventory(Protocol):
    """All files of a store, in parts."""

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """Return the files whose names begin with a digit, by name, with the times of writing. Raises `OSError`."""
        ...

    async def delete(self, name: str) -> None:
        """Delete the file if there is one. Raises `OSError`."""
        ...


class FolderStore:
    """Files in a folder that all processes share. It makes the folder when it first writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, content: bytes) -> None:
        """See `FileStore`."""
        await asyncio.to_thread(self._write, self._path(name), content)

    async def get(self, name: str) -> bytes | None:
        """See `FileStore`."""
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        """See `FileStore`."""
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """See `FileInventory`. Unfinished files are among them."""
        return await asyncio.to_thread(self._find, digit)

    def _find(self, digit: str) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        for path in self._folder.glob(f"{digit}?/*"):
            if _NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # deleted, or finished, meanwhile
                    found[path.name] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return found

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("the name of a file is 32 hexadecimal digits")
        return self._folder / name[:2] / name

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(_UNFINISHED)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class EncryptedFiles:
    """Files that only the holder of `ENCRYPTION_KEY` can read, each for the row that it was written for."""

    def __init__(self, store: FileStore, cipher: Cipher) -> None:
        self._store = store
        self._cipher = cipher

    async def put(self, row: str, content: bytes) -> str:
        """Encrypt and write a new file for `row`, and return its name. Raises `OSError`."""
        name = token_hex(16)
        await self._store.put(name, await asyncio.to_thread(self._cipher.encrypt, content, _bound(row, name)))
        return name

    async def get(self, row: str, name: str) -> bytes:
        """Return the content. Raises `DocumentUnreadable`, `OSError`."""
        encrypted = await self._store.get(name)
        if encrypted is None:
            raise DocumentMissing("The file of the document is missing.")
        try:
            return await asyncio.to_thread(self._cipher.decrypt, encrypted, _bound(row, name))
        except DecryptionFailed as error:
            raise DocumentUnreadable(f"The file of the document cannot be decrypted. {error.message}") from None

    async def delete(self, name: str) -> None:
        """Delete a file. Raises `OSError`."""
        await self._store.delete(name)


def _bound(row: str, name: str) -> str:
    return f"{row} {name}"
