"""What every store of documents does: the folder, and S3 (here moto's mock of it)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_bytes, token_hex

import pytest
from cryptography.fernet import Fernet

from safevideo_common.documents.files import (
    MARK_NAME,
    MAX_READ_BYTES,
    DocumentMissing,
    DocumentUnreadable,
    EncryptedFiles,
    FileTooLarge,
    FolderStore,
)
from safevideo_common.documents.s3 import S3FileStore
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import FilesUnavailable

Store = FolderStore | S3FileStore
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 11 * MEBIBYTE])
async def test_file_is_read_as_it_was_written(file_store: Store, size: int) -> None:
    name, content = token_hex(16), token_bytes(size)
    await file_store.put(name, content)
    assert await file_store.get(name) == content


async def test_file_over_the_limit_is_not_read(file_store: Store) -> None:
    name, keys = token_hex(16), EncryptionKeys.parse(Fernet.generate_key().decode())
    await file_store.put(name, bytes(MAX_READ_BYTES + 1))
    with pytest.raises(FileTooLarge):
        await file_store.get(name)
    with pytest.raises(DocumentUnreadable, match="too large"):
        await EncryptedFiles(file_store, keys.cipher(Purpose.KYC_DOCUMENT)).get("row 1", name)


async def test_missing_file_is_none_and_its_deletion_changes_nothing(file_store: Store) -> None:
    name = token_hex(16)
    assert await file_store.get(name) is None
    await file_store.delete_file(name)
    await file_store.put(name, b"content")
    await file_store.delete_file(name)
    await file_store.delete_file(name)
    assert await file_store.get(name) is None


async def test_name_is_written_once(file_store: Store) -> None:
    name = token_hex(16)
    await file_store.put(name, b"first")
    with pytest.raises(FilesUnavailable):
        await file_store.put(name, b"second")
    assert await file_store.get(name) == b"first"
    assert list(await file_store.find(name[0])) == [name]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n", "a/" * 16])
async def test_only_names_of_files_reach_the_store(file_store: Store, name: str) -> None:
    for call in (file_store.get(name), file_store.put(name, b""), file_store.delete_file(name)):
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            await call


async def test_inventory_finds_the_files_of_a_digit_with_their_times(file_store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 counts whole seconds
    names = [digit + token_hex(16)[1:] for digit in "00aaf"]
    for name in names:
        await file_store.put(name, name.encode())
    for digit in "01af":
        found = await file_store.find(digit)
        assert sorted(found) == sorted(each for each in names if each[0] == digit)
        assert all(before <= at <= datetime.now(UTC) + timedelta(seconds=1) for at in found.values())


async def test_mark_is_read_as_it_was_written_and_is_no_document(file_store: Store) -> None:
    assert await file_store.read_mark() is None
    for mark in (token_hex(16), token_hex(16)):
        await file_store.write_mark(mark)
        assert await file_store.read_mark() == mark
    assert [name for digit in "0123456789abcdef" for name in await file_store.find(digit)] == []


@pytest.mark.parametrize("content", [b"", b"not a mark", b"\xff" * 32, b"0" * 10_000])
async def test_damaged_mark_is_none_that_a_database_has(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARK_NAME).write_bytes(content)
    assert await FolderStore(tmp_path).read_mark() == "damaged"


async def test_swapped_file_does_not_open(file_store: Store) -> None:
    keys = EncryptionKeys.parse(Fernet.generate_key().decode())
    files = EncryptedFiles(file_store, keys.cipher(Purpose.KYC_DOCUMENT))
    name = await files.put("row 1", b"a passport")
    assert await files.get("row 1", name) == b"a passport"
    with pytest.raises(DocumentUnreadable):
        await files.get("row 2", name)
    other = token_hex(16)
    await file_store.put(other, await file_store.get(name) or b"")
    with pytest.raises(DocumentUnreadable):
        await files.get("row 1", other)
    await file_store.delete_file(name)
    with pytest.raises(DocumentMissing):
        await files.get("row 1", name)
