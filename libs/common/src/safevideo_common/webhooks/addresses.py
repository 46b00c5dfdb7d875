"""The address of our webhook endpoint, as Sharegram is told to call it."""

import re
from typing import Final
from urllib.parse import urlsplit

_ADDRESS: Final = re.compile(r"https?://[!-\[\]-~]{1,1000}")


def address_fault(url: str, *, only_https: bool) -> str | None:
    """Return why webhooks cannot be sent to `url`, or None. The reason repeats nothing of it.

    A production takes https alone: a webhook has personal data. An address with a user would be kept with its password.
    """
    try:
        parts = urlsplit(url)
        is_whole = bool(_ADDRESS.fullmatch(url) and parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_whole = False
    if not is_whole or parts.fragment:
        return "must be https://host, with a port and a path if need be"
    if "@" in parts.netloc:
        return "must have no user and no password"
    if only_https and parts.scheme != "https":
        return "must be https in production"
    return None
