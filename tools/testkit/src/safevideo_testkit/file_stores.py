"""The stores of documents of tests: a folder, and a mock of S3 (moto's server, which keeps objects in memory)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.request import Request, urlopen

import pytest

from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.s3 import Bucket, S3FileStore


@dataclass(frozen=True, slots=True)
class MockS3:
    """A running mock, with the API of S3 over HTTP."""

    endpoint: str

    def bucket(self) -> Bucket:
        """Make a bucket of a new name."""
        bucket = self.missing_bucket()
        self._send("PUT", bucket.name)
        return bucket

    def missing_bucket(self) -> Bucket:
        """Return a bucket that is not there."""
        name = f"documents-{token_hex(4)}"
        return Bucket(name, "of/a/test", self.endpoint, "eu-west-1", "an-access-key", "the-secret-key-of-a-test")

    def put(self, bucket: Bucket, key: str) -> None:
        """Write an object that is not ours."""
        self._send("PUT", f"{bucket.name}/{key}", b"x")

    def remove_all(self) -> None:
        """Remove all buckets and what is in them."""
        self._send("POST", "moto-api/reset")

    def _send(self, method: str, path: str, content: bytes | None = None) -> None:
        urlopen(Request(f"{self.endpoint}/{path}", content, method=method), timeout=30).close()


@pytest.fixture(scope="session")
def mock_s3() -> Iterator[MockS3]:
    """Run the mock on a free port."""
    from moto.server import ThreadedMotoServer  # takes a second, and few tests need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield MockS3(f"http://{host}:{port}")
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def file_store(request: pytest.FixtureRequest, tmp_path: Path) -> FolderStore | S3FileStore:
    """Return an empty store of each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "documents")
    mock: MockS3 = request.getfixturevalue("mock_s3")
    return S3FileStore(mock.bucket())
