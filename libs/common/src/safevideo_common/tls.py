"""TLS of the connections that this process opens. Every one verifies the certificate and the host of its server."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safevideo_common.errors import StartupError

MIN_TLS: Final = ssl.TLSVersion.TLSv1_2


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a connection, read once. After a renewal the process must start again."""

    ca: Path | None = None
    """The CA of the server's certificate; without it the roots of the system."""
    certificate: Path | None = None
    """Our own certificate, for a server that asks for one."""
    key: Path | None = None
    """The key of our own certificate. Without it the file of the certificate has the key too."""


def client_context(setting: str, files: TlsFiles) -> ssl.SSLContext:
    """Return the TLS settings of a client. Raises `StartupError`, which names `setting`, if a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=None if files.ca is None else str(files.ca))
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as error:  # `SSLError` is an OSError
        raise StartupError(f"{setting} cannot be used: {type(error).__name__}.") from None
    if files.key is not None and files.certificate is None:
        raise StartupError(f"{setting} has a key without a certificate.")
    context.minimum_version = MIN_TLS
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask at the terminal for the password of an encrypted key, and wait.
    raise ValueError("the key is encrypted")
