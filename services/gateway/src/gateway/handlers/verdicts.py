"""What becomes of a quarantined webhook when it is verified again. Pure, and nothing but bytes and headers goes in."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.database.rejected_webhooks import Quarantined
from safevideo_common.encryption import Cipher, Undecipherable
from safevideo_common.errors import ValidationFailed, WebhookSignatureInvalid
from safevideo_common.messaging.port import Message
from safevideo_common.sharegram.webhook_parsing import message_of, parse_webhook
from safevideo_common.sharegram.webhook_signatures import Scheme, WebhookSecret
from safevideo_common.web.correlation import Correlation

HOLDS: Final = "holds"
INVALID: Final = "invalid"
"""The signature holds, and the door would have answered 400: the body or an id is not as agreed."""

UNDECIPHERABLE: Final = "undecipherable"
"""Written under a key that `ENCRYPTION_KEY` does not have any more."""


class Verdict(NamedTuple):
    """`reason` is `HOLDS`, and then there is a message to publish; or why not, in the words of `Refusal` or above."""

    row_id: int
    reason: str
    event_id: str = ""
    message: Message | None = None


def verdict_on(row: Quarantined, cipher: Cipher, scheme: Scheme, secrets: Sequence[WebhookSecret]) -> Verdict:
    """Verify as the door would have at the moment of reception: that, and not now, is what a timestamp is judged by.

    A webhook that holds becomes the very message, under the very id, that the door would have published.
    """
    headers = _as_sent(row.headers)
    try:
        body = cipher.decrypt(row.body)
        scheme.verify(headers, body, secrets, row.received_at)
        envelope = parse_webhook(body, headers, Correlation(row.request_id, headers.get("traceparent", "")))
    except Undecipherable:
        return Verdict(row.row_id, UNDECIPHERABLE)
    except WebhookSignatureInvalid as error:
        return Verdict(row.row_id, str((error.details or {}).get("reason", "")))
    except ValidationFailed:
        return Verdict(row.row_id, INVALID)
    return Verdict(row.row_id, HOLDS, envelope.id, message_of(envelope, body))


def _as_sent(headers: Mapping[str, Sequence[str]]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([(name, value) for name, values in headers.items() for value in values]))
