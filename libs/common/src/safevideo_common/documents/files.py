"""The files of documents: encrypted, each bound to its row, in a store that keeps bytes by name.

A file is written before its row, and deleted after the commit that no longer names it (`deletions.py`). So a row
always has its file, and a file without a row belongs to an upload that is not finished, or that failed.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol

from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import FilesUnavailable, SafeVideoError

NAME: Final = re.compile(r"[0-9a-f]{32}")
_UNFINISHED: Final = ".new"
"""The end of the name of a file that is being written, or whose writer was killed."""
MARK_NAME: Final = "store-mark"
"""The name of the file with the mark. It is none of the names of documents."""
RETRY_AFTER_SECONDS: Final = 5
MAX_READ_BYTES: Final = 2 * MAX_DOCUMENT_BYTES
"""Bytes of a file that is read. Earlier releases stored some documents with more than `MAX_DOCUMENT_BYTES`."""


class DocumentUnreadable(SafeVideoError):
    """The file of a document is missing, damaged, or belongs to another row. An operator restores it."""

    code = "DOCUMENT_UNREADABLE"


class FileTooLarge(SafeVideoError):
    """The file has more than `MAX_READ_BYTES`. Nothing of it was read."""


class DocumentMissing(DocumentUnreadable):
    """The file of a document is missing."""


class FileStore(Protocol):
    """Bytes by name. A name is 32 hexadecimal digits. Each method raises `FilesUnavailable`."""

    async def put(self, name: str, content: bytes) -> None:
        """Write a file that survives a crash once this returns. A name that is there is refused, as unavailable."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return the content, or None if there is no such file. Raises `FileTooLarge` over `MAX_READ_BYTES`."""
        ...

    async def delete_file(self, name: str) -> None:
        """Delete the file if there is one. Only the deleter of kyc-worker calls it."""
        ...


class FileInventory(Protocol):
    """All files of a store, in parts. Each method raises `FilesUnavailable`."""

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """Return the files whose names begin with a digit, by name, with the times of writing."""
        ...


class MarkedStore(Protocol):
    """A store that says which one it is. Its mark is copied with its files. Each method raises `FilesUnavailable`."""

    async def read_mark(self) -> str | None:
        """Return the mark, or None if there is none."""
        ...

    async def write_mark(self, mark: str) -> None:
        """Write the mark in place of an earlier one. It survives a crash once this returns."""
        ...


def path_of(name: str) -> str:
    """Return the path of a file in its store. The same in each kind of store, so files can be copied between them.

    Raises `ValueError` for what is no name.
    """
    if not NAME.fullmatch(name.removesuffix(_UNFINISHED)):
        raise ValueError("the name of a file is 32 hexadecimal digits")
    return f"{name[:2]}/{name}"


def mark_of(content: bytes) -> str:
    """Return the mark that a file has. Content that is no mark is one that no database has."""
    text = content[:64].decode("ascii", "replace").strip()
    return text if NAME.fullmatch(text) else "damaged"


@contextmanager
def unavailable_on(*errors: type[Exception]) -> Iterator[None]:
    """Raise `FilesUnavailable` for errors of a store. Its message has their class, since theirs may name paths."""
    try:
        yield
    except errors as error:
        reason = type(error).__name__
        raise FilesUnavailable(f"Documents are unavailable ({reason}).", retry_after=RETRY_AFTER_SECONDS) from error


class FolderStore:
    """Files in a folder that all processes share. It makes the folder when it first writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, content: bytes) -> None:
        """See `FileStore`."""
        path = self._folder / path_of(name)
        with unavailable_on(OSError):
            await asyncio.to_thread(_write, path, content)

    async def get(self, name: str) -> bytes | None:
        """See `FileStore`."""
        path = self._folder / path_of(name)
        with unavailable_on(OSError):
            try:
                return await asyncio.to_thread(_read, path)
            except FileNotFoundError:
                return None

    async def delete_file(self, name: str) -> None:
        """See `FileStore`."""
        path = self._folder / path_of(name)
        with unavailable_on(OSError):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def read_mark(self) -> str | None:
        """See `MarkedStore`."""
        path = self._folder / MARK_NAME
        with unavailable_on(OSError):
            try:
                return mark_of(await asyncio.to_thread(path.read_bytes))
            except FileNotFoundError:
                return None

    async def write_mark(self, mark: str) -> None:
        """See `MarkedStore`."""
        with unavailable_on(OSError):
            await asyncio.to_thread(_write_mark, self._folder, mark)

    async def find(self, digit: str) -> Mapping[str, datetime]:
        """See `FileInventory`. Unfinished files are among them."""
        with unavailable_on(OSError):
            return await asyncio.to_thread(self._find, digit)

    def _find(self, digit: str) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        for path in self._folder.glob(f"{digit}?/*"):
            if NAME.fullmatch(path.name.removesuffix(_UNFINISHED)):
                with suppress(FileNotFoundError):  # deleted, or finished, meanwhile
                    found[path.name] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return found


def check_size(size: int) -> None:
    """Raise `FileTooLarge` for a file that is not read."""
    if size > MAX_READ_BYTES:
        raise FileTooLarge(f"The file has {size} bytes, and at most {MAX_READ_BYTES} are read.")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        check_size(os.fstat(file.fileno()).st_size)
        return file.read(MAX_READ_BYTES)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(_UNFINISHED)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if path.exists():  # nobody else writes it now: the unfinished file is ours
            unfinished.unlink()
            raise FileExistsError
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)
    _sync_folder(path.parent)


def _write_mark(folder: Path, mark: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = folder / f"{MARK_NAME}.{token_hex(4)}{_UNFINISHED}"  # of this writer alone
    with unfinished.open("w") as file:
        file.write(mark)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / MARK_NAME)
    _sync_folder(folder)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
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
        """Encrypt and write a new file for `row`, and return its name. Raises `FilesUnavailable`."""
        name = token_hex(16)
        await self._store.put(name, await asyncio.to_thread(self._cipher.encrypt, content, _bound(row, name)))
        return name

    async def get(self, row: str, name: str) -> bytes:
        """Return the content. Raises `DocumentUnreadable`, `FilesUnavailable`."""
        try:
            encrypted = await self._store.get(name)
        except FileTooLarge as error:
            raise DocumentUnreadable(f"The file of the document is too large. {error.message}") from None
        if encrypted is None:
            raise DocumentMissing("The file of the document is missing.")
        try:
            return await asyncio.to_thread(self._cipher.decrypt, encrypted, _bound(row, name))
        except DecryptionFailed as error:
            raise DocumentUnreadable(f"The file of the document cannot be decrypted. {error.message}") from None


def _bound(row: str, name: str) -> str:
    return f"{row} {name}"
