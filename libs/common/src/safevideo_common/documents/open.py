"""The choice of the store of documents from the settings."""

from typing import TYPE_CHECKING

from safevideo_common.documents.files import FolderStore
from safevideo_common.documents.settings import KycSettings

if TYPE_CHECKING:
    from safevideo_common.documents.s3 import S3FileStore


def open_file_store(settings: KycSettings) -> "FolderStore | S3FileStore":
    """Return the store in `UPLOAD_BUCKET`, or in the folder `UPLOAD_DIR` if that is empty. Nothing is opened yet."""
    if not settings.upload_bucket:
        return FolderStore(settings.upload_dir)
    from safevideo_common.documents.s3 import Bucket, S3FileStore  # only who stores there needs the client

    name, _, prefix = settings.upload_bucket.removeprefix("s3://").partition("/")
    secret = settings.s3_secret_access_key
    return S3FileStore(
        Bucket(
            name,
            prefix.strip("/"),
            settings.s3_endpoint,
            settings.s3_region,
            settings.s3_access_key_id,
            secret.get_secret_value() if secret else "",
        )
    )
