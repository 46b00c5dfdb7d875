"""Encryption and authentication of connections to Kafka, from the settings."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from safevideo_common.errors import StartupError
from safevideo_common.settings import KafkaSettings
from safevideo_common.tls import TlsFiles, client_context


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Encryption and credentials of all clients of a process. The default is plain text without credentials."""

    protocol: str = "PLAINTEXT"
    tls: ssl.SSLContext | None = None
    mechanism: str = "PLAIN"
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """Return the security that the settings ask for.

        Raises `StartupError` for a file that cannot be used, and for SASL without a user or a password.
        """
        protocol = settings.kafka_security_protocol
        tls = None
        if protocol.endswith("SSL"):
            files = TlsFiles(settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file)
            tls = client_context("KAFKA_CA_FILE, KAFKA_CERT_FILE or KAFKA_KEY_FILE", files)
        if not protocol.startswith("SASL"):
            return cls(protocol, tls)
        if not settings.kafka_username or settings.kafka_password is None:
            raise StartupError(f"KAFKA_SECURITY_PROTOCOL={protocol} needs KAFKA_USERNAME and KAFKA_PASSWORD.")
        password = settings.kafka_password.get_secret_value()
        return cls(protocol, tls, settings.kafka_sasl_mechanism, settings.kafka_username, password)

    def arguments(self) -> Mapping[str, object]:
        """Return the arguments of a client of aiokafka."""
        arguments: dict[str, object] = {"security_protocol": self.protocol, "ssl_context": self.tls}
        if self.username:
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments


PLAINTEXT: Final = KafkaSecurity()
