"""Every metric that a process exports, one entry each. `make metrics-list` makes docs/metrics.md from here.

A process creates its metrics only from these entries; `tests/contracts/test_metrics.py` checks that. A label has few
values, which are known in advance: no id, no address, nothing that a sender chooses.
"""

from typing import Final

from safevideo_common.observability.metric import CounterMetric, GaugeMetric, Group, HistogramMetric, Metric

INGEST: Final = ("webhook-ingest",)
WORKERS: Final = ("kyc-worker", "sync-worker")
GATEWAY: Final = ("gateway",)

# --- every service ---
_HTTP: Final = Group("HTTP", (*GATEWAY, *WORKERS, *INGEST))

HTTP_REQUEST_DURATION: Final = HistogramMetric(
    _HTTP, "safevideo_http_request_duration_seconds", "Time from the request's head to its answer.",
    ("method", "route", "status"),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)  # fmt: skip

# --- webhook-ingest ---
_WEBHOOKS: Final = Group("Webhooks", INGEST)

WEBHOOKS: Final = CounterMetric(
    _WEBHOOKS, "safevideo_webhooks_total", "Webhooks by outcome: accepted, or the reason of the refusal.", ("outcome",)
)
WEBHOOK_STAGE_DURATION: Final = HistogramMetric(
    _WEBHOOKS, "safevideo_webhook_stage_duration_seconds",
    "Time of a webhook's stages: read (its body), verify (signature and shape), publish (until it is safe).",
    ("stage",),
    (
        0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005,  # the microseconds of an HMAC
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5,  # more than the produce deadline
    ),
)  # fmt: skip
WEBHOOK_SECRET_USED: Final = CounterMetric(
    _WEBHOOKS, "safevideo_webhook_secret_used_total", "Accepted webhooks by the secret's name.", ("secret",)
)
WEBHOOK_LAST_ACCEPTED: Final = GaugeMetric(
    _WEBHOOKS, "safevideo_webhook_last_accepted_timestamp_seconds",
    "Unix time of the last accepted webhook of a source. Not there before the first: use max_over_time.", ("source",),
)  # fmt: skip
CONNECTIONS_CLOSED: Final = CounterMetric(
    _WEBHOOKS, "safevideo_connections_closed_total",
    "Connections that a limit closed: header_timeout, write_timeout, evicted, rejected, throttled.", ("reason",),
)  # fmt: skip
WEBHOOKS_IN_FLIGHT: Final = GaugeMetric(_WEBHOOKS, "safevideo_webhooks_in_flight", "Webhooks in hand.")

# --- webhook-ingest: spool ---
_SPOOL: Final = Group("Spool", INGEST)

SPOOL_EVENTS: Final = GaugeMetric(_SPOOL, "safevideo_spool_events", "Events in the spool.")
SPOOL_BYTES: Final = GaugeMetric(_SPOOL, "safevideo_spool_bytes", "Bytes of the spool's files.")
SPOOL_OLDEST_SECONDS: Final = GaugeMetric(
    _SPOOL, "safevideo_spool_oldest_seconds", "Age of the event in the spool that is delivered next."
)
SPOOL_KAFKA_UNAVAILABLE: Final = GaugeMetric(
    _SPOOL,
    "safevideo_spool_kafka_unavailable",
    "1 while the log is taken to be away and every event goes through the spool.",
)
SPOOL_WRITTEN: Final = CounterMetric(_SPOOL, "safevideo_spool_written_total", "Events written to the spool.")
SPOOL_DRAINED: Final = CounterMetric(_SPOOL, "safevideo_spool_drained_total", "Events of the spool that the log has.")
SPOOL_RECOVERED: Final = CounterMetric(_SPOOL, "safevideo_spool_recovered_total", "Events that a dead process left.")
SPOOL_REJECTED: Final = CounterMetric(
    _SPOOL, "safevideo_spool_rejected_total", "Events that the spool did not take: it was full or the disk failed."
)
SPOOL_CORRUPT: Final = CounterMetric(
    _SPOOL, "safevideo_spool_corrupt_total", "Places that could not be read or delivered, set aside."
)
SPOOL_CORRUPT_EVICTED: Final = CounterMetric(
    _SPOOL, "safevideo_spool_corrupt_evicted_total", "Files set aside and removed again: there were too many."
)

# --- webhook-ingest: quarantine ---
_QUARANTINE: Final = Group("Quarantine (with ENCRYPTION_KEY)", INGEST)

QUARANTINED_WEBHOOKS: Final = CounterMetric(
    _QUARANTINE, "safevideo_quarantined_webhooks_total",
    "Refused webhooks by what became of them: kept, repeated (counted in the row of the first), dropped "
    "(over_address_limit, queue_full, database_away, unstorable), or removed again (evicted, expired).", ("outcome",),
)  # fmt: skip
QUARANTINE_ROWS: Final = GaugeMetric(_QUARANTINE, "safevideo_quarantine_rows", "Webhooks in quarantine.")
QUARANTINE_BYTES: Final = GaugeMetric(
    _QUARANTINE, "safevideo_quarantine_bytes", "Bytes of their bodies before encryption."
)

# --- consuming ---
_CONSUMING: Final = Group("Consuming", WORKERS)

EVENTS: Final = CounterMetric(_CONSUMING, "safevideo_events_total", "Events by what became of them.", ("outcome",))
BATCH_EVENTS: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_events", "Events of one transaction.", (), (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
)
BATCH_DURATION: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_duration_seconds", "Time from a fetched batch to its commit in the database."
)
OFFSET_COMMIT_FAILURES: Final = CounterMetric(
    _CONSUMING, "safevideo_offset_commit_failures_total", "Offset commits without a known outcome."
)
BATCH_STAGE_DURATION: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_stage_duration_seconds",
    "Time of a batch's stages: load, decide, store, commit (database), offsets (log).", ("stage",),
)  # fmt: skip
REBALANCES: Final = CounterMetric(
    _CONSUMING, "safevideo_rebalances_total", "Times at which partitions may have changed hands."
)
CONSUMER_HALTED: Final = GaugeMetric(
    _CONSUMING, "safevideo_consumer_halted", "1 when consuming has stopped because too many events would die."
)
CONSUMER_LAG_SECONDS: Final = GaugeMetric(
    _CONSUMING, "safevideo_consumer_lag_seconds",
    "Age of the latest applied record of a partition that holds later ones, else 0.", ("topic", "partition"),
)  # fmt: skip
CONSUMER_LAG_RECORDS: Final = GaugeMetric(
    _CONSUMING, "safevideo_consumer_lag_records", "Records not yet committed.", ("topic", "partition")
)

# --- the outbox ---
_OUTBOX: Final = Group("Outbox (each process measures the one that all share)", WORKERS)

OUTBOX_ROWS: Final = GaugeMetric(
    _OUTBOX, "safevideo_outbox_rows", "Messages that wait to be published; 100,000 stands for that many or more."
)
OUTBOX_OLDEST_SECONDS: Final = GaugeMetric(
    _OUTBOX, "safevideo_outbox_oldest_seconds", "Age of the message that is published next, 0 when there is none."
)
OUTBOX_PUBLISHED: Final = CounterMetric(
    _OUTBOX, "safevideo_outbox_published_total", "Messages that this process has published."
)
OUTBOX_PUBLISH_FAILURES: Final = CounterMetric(
    _OUTBOX,
    "safevideo_outbox_publish_failures_total",
    "Tries to relay that failed, the log or the database being away.",
)
OUTBOX_DISCARDED: Final = CounterMetric(
    _OUTBOX, "safevideo_outbox_discarded_total", "Messages that the log does not take for their size."
)

# --- the inbox ---
_INBOX: Final = Group("Inbox (looked at once a minute)", WORKERS)

INBOX_ROWS: Final = GaugeMetric(_INBOX, "safevideo_inbox_rows", "Events in the inbox, of all groups; an estimate.")
INBOX_WAITING: Final = GaugeMetric(
    _INBOX, "safevideo_inbox_waiting_events", "Events of this group that wait to be tried again; at most 100000."
)
INBOX_DEAD: Final = GaugeMetric(_INBOX, "safevideo_inbox_dead_events", "Dead events of this group; at most 100000.")
INBOX_OLDEST_WAITING_SECONDS: Final = GaugeMetric(
    _INBOX, "safevideo_inbox_oldest_waiting_seconds", "Age of this group's event that waits longest; 0 without one."
)
INBOX_DELETED: Final = CounterMetric(
    _INBOX, "safevideo_inbox_deleted_total", "Events that left the inbox since they were too old."
)

# --- jobs ---
_JOBS: Final = Group("Jobs", WORKERS)

JOBS_QUEUED: Final = GaugeMetric(
    _JOBS, "safevideo_jobs_queued", "Jobs that wait, of all types; at most 100000 in all.", ("job_type", "priority")
)
JOBS_OLDEST_QUEUED_SECONDS: Final = GaugeMetric(
    _JOBS,
    "safevideo_jobs_oldest_queued_seconds",
    "For so long the first of them has been due.",
    ("job_type", "priority"),
)
JOBS_INVALID: Final = GaugeMetric(
    _JOBS, "safevideo_jobs_invalid", "Jobs whose status is none of the five words: nobody runs them."
)
JOBS_RUNNING: Final = GaugeMetric(_JOBS, "safevideo_jobs_running", "Jobs that this process runs.", ("job_type",))
JOBS_CLAIMED: Final = CounterMetric(
    _JOBS, "safevideo_jobs_claimed_total", "Tries that this process began.", ("job_type",)
)
JOB_ATTEMPTS: Final = CounterMetric(
    _JOBS, "safevideo_job_attempts_total",
    "Tries by how they ended: completed, retryable (tried again), failed, cancelled, interrupted.",
    ("job_type", "outcome"),
)  # fmt: skip
JOB_DURATION: Final = HistogramMetric(_JOBS, "safevideo_job_duration_seconds", "Time of a try.", ("job_type",))
JOB_LEASES_LOST: Final = CounterMetric(
    _JOBS, "safevideo_job_leases_lost_total", "Tries whose lease was lost: they wrote nothing any more."
)
JOBS_RESCUED: Final = CounterMetric(
    _JOBS, "safevideo_jobs_rescued_total", "Jobs taken back from workers that died, by what they are then.",
    ("job_type", "status"),
)  # fmt: skip
JOB_HEARTBEATS_LATE: Final = CounterMetric(
    _JOBS, "safevideo_job_heartbeats_late_total", "Heartbeats that the event loop or the database kept waiting."
)
PERIODIC_JOBS_ENQUEUED: Final = CounterMetric(
    _JOBS, "safevideo_periodic_jobs_enqueued_total", "Jobs that this process queued on schedule.", ("name",)
)

# --- replays ---
_REPLAYS: Final = Group("Replays (those that run in the process)", WORKERS)

REPLAY_EVENTS: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_events_total",
    "Events replayed, by mode (real; dry: only foreseen) and by what became of them; known: the inbox has it, it was "
    "passed over.", ("mode", "outcome"),
)  # fmt: skip
REPLAY_RECORDS_REMAINING: Final = GaugeMetric(
    _REPLAYS, "safevideo_replay_records_remaining", "Records that running replays have yet to come to.", ("mode",)
)
REPLAY_STALLED_SECONDS: Final = GaugeMetric(
    _REPLAYS, "safevideo_replay_stalled_seconds",
    "For so long a running replay has come no further without waiting on purpose; the longest, 0 without one.",
)  # fmt: skip
REPLAY_THROTTLED_SECONDS: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_throttled_seconds_total",
    "Time that replays have waited on purpose: throttle (their rate), live_lag (the live flow falls behind).",
    ("reason",),
)  # fmt: skip
REPLAY_RECORDS_EXPIRED: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_records_expired_total", "Records that retention deleted before a replay came to them."
)

# --- the API ---
_API: Final = Group("API", GATEWAY)

PERFORMER_READS: Final = CounterMetric(
    _API,
    "safevideo_performer_reads_total",
    "Performers read, by the place that had them: cache or database.",
    ("source",),
)

METRICS: Final[tuple[Metric, ...]] = tuple(each for each in globals().values() if isinstance(each, Metric))
"""All of them, in the order above."""
