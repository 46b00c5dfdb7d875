"""The stages of a webhook's way, by the code that they are made of."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONNECTION: Final = "connection: accept, end"
HTTP: Final = "HTTP: read, parse, answer"
IDS: Final = "request ids"
SIGNATURE: Final = "signature"
EVENT: Final = "body to event"
PUBLISH: Final = "publish, acknowledged"
LOG_LINE: Final = "log line"
METRICS: Final = "metrics"
LIMITS: Final = "limits, quarantine"
HANDLER: Final = "the handler itself"
REST: Final = "the event loop, the rest"

CODE: Final[Mapping[str, tuple[str, ...]]] = {
    CONNECTION: (":connection_made", ":connection_lost", "aiohttp/web_server.py:__call__"),
    LOG_LINE: ("observability/log", ":_report_rejection"),
    METRICS: ("observability/", "webhook_ingest/metrics.py", "prometheus_client/"),
    LIMITS: ("webhook_ingest/protection/", "webhook_ingest/quarantine/"),
    SIGNATURE: ("webhooks/signatures/", ":_verify", "webhook_ingest/secrets/", "safevideo_common/clock.py"),
    EVENT: ("webhooks/parsing.py", "safevideo_common/events/"),
    PUBLISH: ("safevideo_common/broker/", "aiokafka/", "webhook_ingest/publishing/", "webhook_ingest/spool/"),
    IDS: ("web/correlation.py",),
    HANDLER: ("webhook_ingest/api.py",),
    HTTP: ("aiohttp/", "safevideo_common/web/", "yarl/", "multidict/"),
}
"""What the path and the function of a frame may hold; the first stage that fits has it."""

STAGES: Final = (CONNECTION, HTTP, IDS, SIGNATURE, EVENT, PUBLISH, LOG_LINE, METRICS, LIMITS, HANDLER, REST)


def shares(folded: Path) -> Mapping[str, float]:
    """Each stage's share of the samples that `servers/sampled.py` wrote."""
    counts: Counter[str] = Counter()
    for line in folded.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stage_of(stack.split(";"))] += int(count)
    total = counts.total()
    return {stage: counts[stage] / total for stage in STAGES}


def stage_of(stack: list[str]) -> str:
    """The stage of the innermost frame that has one: a library's frame belongs to whoever called it."""
    return next((stage for frame in reversed(stack) if (stage := _of_frame(frame))), REST)


def _of_frame(frame: str) -> str | None:
    return next((stage for stage, code in CODE.items() if any(part in frame for part in code)), None)
