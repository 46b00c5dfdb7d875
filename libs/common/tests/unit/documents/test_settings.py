"""The settings that say where documents are."""

import pytest

from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.open import open_file_store
from safevideo_common.documents.s3 import S3FileStore
from safevideo_common.documents.settings import KycSettings
from safevideo_common.errors import StartupError
from safevideo_common.settings import load_settings

SECRET = "kR9+fQ2vB7m/xW4tZ8pL1nC6"


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> KycSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(KycSettings)


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    with pytest.raises(StartupError) as caught:
        load(monkeypatch, **environment)
    return str(caught.value)


def test_documents_are_in_a_folder_unless_a_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_file_store(load(monkeypatch)), FolderStore)
    in_bucket = {"UPLOAD_BUCKET": "s3://our-documents/kyc", "S3_ACCESS_KEY_ID": "AKIA", "S3_SECRET_ACCESS_KEY": SECRET}
    assert isinstance(open_file_store(load(monkeypatch, **in_bucket)), S3FileStore)


@pytest.mark.parametrize(
    "bucket", ["our-documents", "s3://", "s3://a", "s3://our documents", "s3://ours//x", "http://ours"]
)
def test_malformed_bucket_is_refused(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    assert "UPLOAD_BUCKET" in refusal(monkeypatch, UPLOAD_BUCKET=bucket)


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "ftp://minio", "https://", "https://a:b@minio", "https://minio?a=b"]
)
def test_malformed_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    assert "S3_ENDPOINT" in refusal(monkeypatch, S3_ENDPOINT=endpoint)


@pytest.mark.parametrize("only", [{"S3_ACCESS_KEY_ID": "AKIA"}, {"S3_SECRET_ACCESS_KEY": SECRET}])
def test_half_of_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, only: dict[str, str]) -> None:
    said = refusal(monkeypatch, **only)
    assert "Set both, or none" in said
    assert SECRET not in said


def test_plaintext_to_another_host_is_refused_in_production_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, S3_ENDPOINT="http://127.0.0.1:9000")
    load(monkeypatch, S3_ENDPOINT="https://minio.example:9000")
    assert refusal(monkeypatch, S3_ENDPOINT="http://minio:9000").startswith("S3_ENDPOINT is on another host")
    load(monkeypatch, ALLOW_PLAINTEXT="s3")


def test_weak_secret_is_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, S3_ACCESS_KEY_ID="minioadmin", S3_SECRET_ACCESS_KEY="minioadmin")
    assert said.startswith("S3_SECRET_ACCESS_KEY")
