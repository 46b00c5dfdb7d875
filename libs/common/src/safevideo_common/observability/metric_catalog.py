"""The catalog of all metrics that a process exports. `make metrics-list` writes docs/metrics.md from it.

A process creates its metrics only from these entries; `tests/contracts/test_metrics.py` checks that. A label has few
values, which are fixed in advance: no id, no address, nothing that a sender chooses.
"""

from typing import Final

from safevideo_common.observability.metric import CounterMetric, GaugeMetric, Group, HistogramMetric, Metric

INGEST: Final = ("webhook-ingest",)
WORKERS: Final = ("kyc-worker", "sync-worker")
GATEWAY: Final = ("gateway",)

# --- every service ---
_HTTP: Final = Group("HTTP", (*GATEWAY, *WORKERS, *INGEST))

HTTP_REQUEST_DURATION: Final = HistogramMetric(
    _HTTP, "safevideo_http_request_duration_seconds",
    "Time from the head of a request to its response. Route malformed: not HTTP; status 499: the client left first.",
    ("method", "route", "status"),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)  # fmt: skip

# --- background tasks ---
_BACKGROUND: Final = Group("Background tasks", (*GATEWAY, *WORKERS, *INGEST))

BACKGROUND_TASK_FAILURES: Final = CounterMetric(
    _BACKGROUND,
    "safevideo_background_task_failures_total",
    "Ends of tasks that should run as long as their process. Each is started again.",
    ("task",),
)
BACKGROUND_TASK_FAILING: Final = GaugeMetric(
    _BACKGROUND,
    "safevideo_background_task_failing",
    "1 while a background task ends again and again; the process is not ready then.",
    ("task",),
)

# --- protections around calls to Sharegram ---
_PROTECTIONS: Final = Group("Protections", (*GATEWAY, *WORKERS))

BREAKER_STATE: Final = GaugeMetric(
    _PROTECTIONS,
    "safevideo_breaker_state",
    "State of the circuit breaker for this process: 0 closed, 1 half-open, 2 open.",
    ("breaker",),
)
BREAKER_CHANGES: Final = CounterMetric(
    _PROTECTIONS, "safevideo_breaker_changes_total", "Changes of the circuit breaker, by the new state.",
    ("breaker", "state"),
)  # fmt: skip
FALLBACK_SECONDS: Final = GaugeMetric(
    _PROTECTIONS, "safevideo_fallback_seconds", "Time since fallback mode was switched on; 0 while it is off.",
    ("provider",),
)  # fmt: skip
FEATURE_ENABLED: Final = GaugeMetric(
    _PROTECTIONS, "safevideo_feature_enabled", "1 while the feature flag is on in this process.", ("flag",)
)

# --- webhooks ---
_WEBHOOKS: Final = Group("Webhooks", INGEST)

WEBHOOKS: Final = CounterMetric(
    _WEBHOOKS,
    "safevideo_webhooks_total",
    "Webhooks by outcome: accepted, or the reason of the rejection.",
    ("outcome",),
)
WEBHOOK_STAGE_DURATION: Final = HistogramMetric(
    _WEBHOOKS, "safevideo_webhook_stage_duration_seconds",
    "Time of each stage of a webhook: read (body), verify (signature and schema), publish (until it is durable).",
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
    "Unix time of the last accepted webhook of a source. Missing before the first one: use max_over_time.", ("source",),
)  # fmt: skip
CONNECTIONS_CLOSED: Final = CounterMetric(
    _WEBHOOKS, "safevideo_connections_closed_total",
    "Connections that a limit closed: header_timeout, write_timeout, evicted, buffers_full, rejected, throttled.",
    ("reason",),
)  # fmt: skip
WEBHOOKS_IN_FLIGHT: Final = GaugeMetric(_WEBHOOKS, "safevideo_webhooks_in_flight", "Webhooks in flight.")

# --- the spool ---
_SPOOL: Final = Group("Spool", INGEST)

SPOOL_EVENTS: Final = GaugeMetric(_SPOOL, "safevideo_spool_events", "Events in the spool.")
SPOOL_BYTES: Final = GaugeMetric(_SPOOL, "safevideo_spool_bytes", "Bytes of the spool's files.")
SPOOL_OLDEST_SECONDS: Final = GaugeMetric(
    _SPOOL, "safevideo_spool_oldest_seconds", "Age of the next event to deliver from the spool."
)
SPOOL_KAFKA_UNAVAILABLE: Final = GaugeMetric(
    _SPOOL,
    "safevideo_spool_kafka_unavailable",
    "1 while Kafka is considered unavailable, so that every event goes through the spool.",
)
SPOOL_UNAVAILABLE_PARTITIONS: Final = GaugeMetric(
    _SPOOL,
    "safevideo_spool_unavailable_partitions",
    "Partitions that take no writes now. Their events go through the spool, all others are published directly.",
)
SPOOL_WRITTEN: Final = CounterMetric(_SPOOL, "safevideo_spool_written_total", "Events written to the spool.")
SPOOL_DRAINED: Final = CounterMetric(_SPOOL, "safevideo_spool_drained_total", "Spooled events that Kafka acknowledged.")
SPOOL_RECOVERED: Final = CounterMetric(
    _SPOOL, "safevideo_spool_recovered_total", "Spooled events adopted from dead processes."
)
SPOOL_REJECTED: Final = CounterMetric(
    _SPOOL, "safevideo_spool_rejected_total", "Events that the spool rejected because it was full or the disk failed."
)
SPOOL_CORRUPT: Final = CounterMetric(
    _SPOOL,
    "safevideo_spool_corrupt_total",
    "Parts of the spool that could not be read or delivered and were moved to corrupt/.",
)
SPOOL_CORRUPT_EVICTED: Final = CounterMetric(
    _SPOOL, "safevideo_spool_corrupt_evicted_total", "Files deleted from corrupt/ because there were too many."
)

_ORPHANED: Final = Group("Spools without a process", GATEWAY)

SPOOL_ORPHANED: Final = GaugeMetric(
    _ORPHANED, "safevideo_spool_orphaned_events",
    "Events on the disks of webhook-ingest processes that are gone: nobody delivers them. Each gateway shows all.",
)  # fmt: skip

# --- the quarantine ---
_QUARANTINE: Final = Group("Quarantine (with ENCRYPTION_KEY)", INGEST)

QUARANTINED_WEBHOOKS: Final = CounterMetric(
    _QUARANTINE, "safevideo_quarantined_webhooks_total",
    "Rejected webhooks by outcome: kept, repeated (counted in the row of the first), dropped "
    "(over_address_limit, queue_full, database_unavailable, unstorable), or deleted later (evicted, expired).",
    ("outcome",),
)  # fmt: skip
QUARANTINE_ROWS: Final = GaugeMetric(_QUARANTINE, "safevideo_quarantine_rows", "Webhooks in quarantine.")
QUARANTINE_BYTES: Final = GaugeMetric(
    _QUARANTINE, "safevideo_quarantine_bytes", "Bytes of the bodies in quarantine, before encryption."
)

# --- consuming ---
_CONSUMING: Final = Group("Consuming", WORKERS)

EVENTS: Final = CounterMetric(_CONSUMING, "safevideo_events_total", "Processed events by outcome.", ("outcome",))
EVENT_LATENCY: Final = HistogramMetric(
    _CONSUMING, "safevideo_event_latency_seconds",
    "Time from the receipt of a webhook, spool included, to the commit of its effect, also by a retry or a replay.",
    (), (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)  # fmt: skip
EVENT_ID_CONFLICTS: Final = CounterMetric(
    _CONSUMING, "safevideo_event_id_conflicts_total", "Events whose id an earlier event with another body has."
)
BATCH_EVENTS: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_events", "Events per transaction.", (), (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
)
BATCH_DURATION: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_duration_seconds", "Time from the fetch of a batch to its commit in the database."
)
OFFSET_COMMIT_FAILURES: Final = CounterMetric(
    _CONSUMING, "safevideo_offset_commit_failures_total", "Offset commits that failed or whose result is unknown."
)
BATCH_STAGE_DURATION: Final = HistogramMetric(
    _CONSUMING, "safevideo_batch_stage_duration_seconds",
    "Time of each stage of a batch: load, decide, store, commit (database), offsets (Kafka).", ("stage",),
)  # fmt: skip
REBALANCES: Final = CounterMetric(
    _CONSUMING, "safevideo_rebalances_total", "Rebalances: partitions may have moved to another member."
)
CONSUMER_HALTED: Final = GaugeMetric(
    _CONSUMING,
    "safevideo_consumer_halted",
    "1 when the consumer has halted because it would dead-letter too many events.",
)
RETRIES_PAUSED: Final = GaugeMetric(
    _CONSUMING,
    "safevideo_retries_paused",
    "1 while no waiting event is retried, because too many of the retries ended as dead letters.",
)
CONSUMER_LAG_SECONDS: Final = GaugeMetric(
    _CONSUMING, "safevideo_consumer_lag_seconds",
    "Age of the latest applied record of a partition that has later records, else 0.", ("topic", "partition"),
)  # fmt: skip
CONSUMER_LAG_RECORDS: Final = GaugeMetric(
    _CONSUMING, "safevideo_consumer_lag_records", "Records not yet committed.", ("topic", "partition")
)

# --- the outbox ---
_OUTBOX: Final = Group("Outbox (one table; each process measures it)", WORKERS)

OUTBOX_ROWS: Final = GaugeMetric(
    _OUTBOX, "safevideo_outbox_rows", "Messages that wait for publication. Counted up to 100,000."
)
OUTBOX_OLDEST_SECONDS: Final = GaugeMetric(
    _OUTBOX, "safevideo_outbox_oldest_seconds", "Age of the next message to publish; 0 if there is none."
)
OUTBOX_PUBLISHED: Final = CounterMetric(
    _OUTBOX, "safevideo_outbox_published_total", "Messages that this process has published."
)
OUTBOX_PUBLISH_FAILURES: Final = CounterMetric(
    _OUTBOX,
    "safevideo_outbox_publish_failures_total",
    "Failed attempts to publish because Kafka or the database was unavailable.",
)
OUTBOX_BLOCKED_PARTITIONS: Final = GaugeMetric(
    _OUTBOX,
    "safevideo_outbox_blocked_partitions",
    "Partitions that take no writes now. Their messages wait in the outbox, all others are published.",
)
OUTBOX_DISCARDED: Final = CounterMetric(
    _OUTBOX, "safevideo_outbox_discarded_total", "Messages discarded because Kafka rejects their size."
)

# --- the inbox ---
_INBOX: Final = Group("Inbox (measured once a minute)", WORKERS)

INBOX_ROWS: Final = GaugeMetric(_INBOX, "safevideo_inbox_rows", "Events in the inbox, of all groups; an estimate.")
INBOX_WAITING: Final = GaugeMetric(
    _INBOX, "safevideo_inbox_waiting_events", "Events of this group that wait for a retry. Counted up to 100,000."
)
INBOX_DEAD: Final = GaugeMetric(
    _INBOX, "safevideo_inbox_dead_events", "Dead events of this group. Counted up to 100,000."
)
INBOX_OLDEST_WAITING_SECONDS: Final = GaugeMetric(
    _INBOX,
    "safevideo_inbox_oldest_waiting_seconds",
    "Age of the oldest waiting event of this group; 0 if there is none.",
)
INBOX_DELETED: Final = CounterMetric(
    _INBOX, "safevideo_inbox_deleted_total", "Events deleted from the inbox at the end of their retention."
)

# --- jobs ---
_JOBS: Final = Group("Jobs", WORKERS)

JOBS_QUEUED: Final = GaugeMetric(
    _JOBS,
    "safevideo_jobs_queued",
    "Queued jobs, of all types. Counted up to 100,000 in total.",
    ("job_type", "priority"),
)
JOBS_OLDEST_QUEUED_SECONDS: Final = GaugeMetric(
    _JOBS,
    "safevideo_jobs_oldest_queued_seconds",
    "Time for which the first queued job has been due.",
    ("job_type", "priority"),
)
JOBS_INVALID: Final = GaugeMetric(_JOBS, "safevideo_jobs_invalid", "Jobs with an invalid status. No worker runs them.")
JOBS_RUNNING: Final = GaugeMetric(_JOBS, "safevideo_jobs_running", "Jobs that this process runs.", ("job_type",))
JOBS_CLAIMED: Final = CounterMetric(
    _JOBS, "safevideo_jobs_claimed_total", "Attempts that this process started.", ("job_type",)
)
JOB_ATTEMPTS: Final = CounterMetric(
    _JOBS, "safevideo_job_attempts_total",
    "Attempts by outcome: completed, retryable (will run again), failed, cancelled, interrupted.",
    ("job_type", "outcome"),
)  # fmt: skip
JOB_DURATION: Final = HistogramMetric(_JOBS, "safevideo_job_duration_seconds", "Duration of an attempt.", ("job_type",))
JOB_LEASES_LOST: Final = CounterMetric(
    _JOBS, "safevideo_job_leases_lost_total", "Attempts that lost their lease. They wrote nothing afterwards."
)
JOBS_RESCUED: Final = CounterMetric(
    _JOBS, "safevideo_jobs_rescued_total", "Jobs rescued from dead workers, by their status afterwards.",
    ("job_type", "status"),
)  # fmt: skip
JOB_HEARTBEATS_LATE: Final = CounterMetric(
    _JOBS, "safevideo_job_heartbeats_late_total", "Heartbeats delayed by the event loop or the database."
)
PERIODIC_JOBS_ENQUEUED: Final = CounterMetric(
    _JOBS, "safevideo_periodic_jobs_enqueued_total", "Periodic jobs that this process enqueued.", ("name",)
)

# --- KYC ---
_KYC: Final = Group("KYC (measured once a minute)", ("kyc-worker",))

KYC_OLDEST_SECONDS: Final = GaugeMetric(
    _KYC, "safevideo_kyc_oldest_seconds",
    "Time since the last change of the request that has been in_progress or in_review longest; 0 if there is none.",
    ("status",),
)  # fmt: skip
KYC_FLAGGED_REQUESTS: Final = GaugeMetric(
    _KYC,
    "safevideo_kyc_flagged_requests",
    "Requests that a person must see again, since an earlier verification of the performer failed after it had passed.",
)
KYC_UNREADABLE_DOCUMENTS: Final = GaugeMetric(
    _KYC, "safevideo_kyc_unreadable_documents", "Documents whose file is missing or cannot be decrypted."
)
KYC_DOCUMENT_DELETION_OLDEST: Final = GaugeMetric(
    _KYC, "safevideo_kyc_document_deletion_oldest_seconds",
    "Time for which the file of a removed document should have been deleted; 0 if there is none.",
)  # fmt: skip
KYC_DOCUMENT_CLEANUP_REFUSED: Final = GaugeMetric(
    _KYC, "safevideo_kyc_document_cleanup_refused",
    "1 while no file is deleted, by reason. store_mismatch: the store has another mark than the database. "
    "too_many_orphans: too many files have no row.", ("reason",),
)  # fmt: skip

# --- replays ---
_REPLAYS: Final = Group("Replays (those that run in the process)", WORKERS)

REPLAY_EVENTS: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_events_total",
    "Replayed events by mode (real, or dry: only previewed) and by outcome. known: the inbox has the event, so it was "
    "skipped.", ("mode", "outcome"),
)  # fmt: skip
REPLAY_RECORDS_REMAINING: Final = GaugeMetric(
    _REPLAYS, "safevideo_replay_records_remaining", "Records that running replays have not read yet.", ("mode",)
)
REPLAY_STALLED_SECONDS: Final = GaugeMetric(
    _REPLAYS, "safevideo_replay_stalled_seconds",
    "Longest time without progress of a running replay, without its throttled time; 0 if no replay runs.",
)  # fmt: skip
REPLAY_THROTTLED_SECONDS: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_throttled_seconds_total",
    "Time that replays waited on purpose: throttle (their rate limit), live_lag (live consumption lags).",
    ("reason",),
)  # fmt: skip
REPLAY_RECORDS_EXPIRED: Final = CounterMetric(
    _REPLAYS, "safevideo_replay_records_expired_total", "Records that retention deleted before a replay read them."
)

# --- syncs ---
_SYNCS: Final = Group("Syncs of performers", ("sync-worker",))

SYNC_PERFORMERS: Final = CounterMetric(
    _SYNCS, "safevideo_sync_performers_total",
    "Performers that scans have read, by result: created, updated, unchanged, invalid; and deleted ones.",
    ("result",),
)  # fmt: skip
SYNC_SCANS: Final = CounterMetric(
    _SYNCS, "safevideo_sync_scans_total",
    "Attempts of scans by outcome: completed, failed, guard (too many performers are missing: a person decides).",
    ("outcome",),
)  # fmt: skip
SYNC_DRIFT: Final = GaugeMetric(
    _SYNCS, "safevideo_sync_drift_performers",
    "What the last complete scan here has found: missing (Sharegram has them, we have not), extra, different.",
    ("kind",),
)  # fmt: skip
SYNC_RUNNING_SECONDS: Final = GaugeMetric(
    _SYNCS, "safevideo_sync_running_seconds", "Time since the beginning of the oldest running scan; 0 if none runs."
)

# --- calls to Sharegram ---
_SHAREGRAM: Final = Group("Calls to Sharegram", (*GATEWAY, *WORKERS))
_CALL_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

SHAREGRAM_CALLS: Final = CounterMetric(
    _SHAREGRAM, "safevideo_sharegram_calls_total",
    "Calls by operation and outcome: ok, or the reason of the failure.", ("operation", "outcome"),
)  # fmt: skip
SHAREGRAM_CALL_SECONDS: Final = HistogramMetric(
    _SHAREGRAM, "safevideo_sharegram_call_duration_seconds",
    "Time of a call with its waits and retries.", ("operation",), _CALL_BUCKETS,
)  # fmt: skip
SHAREGRAM_TRY_SECONDS: Final = HistogramMetric(
    _SHAREGRAM, "safevideo_sharegram_try_duration_seconds",
    "Time of one try, from the connection to the end of the response: Sharegram's own time.",
    ("operation",), _CALL_BUCKETS,
)  # fmt: skip
SHAREGRAM_RETRIES: Final = CounterMetric(
    _SHAREGRAM, "safevideo_sharegram_retries_total",
    "Retries by result: sent, or over_budget (too many retries at once).", ("operation", "result"),
)  # fmt: skip
SHAREGRAM_CALLS_IN_FLIGHT: Final = GaugeMetric(
    _SHAREGRAM, "safevideo_sharegram_calls_in_flight", "Calls that have a place."
)
SHAREGRAM_CALLS_QUEUED: Final = GaugeMetric(
    _SHAREGRAM, "safevideo_sharegram_calls_queued", "Calls that wait for a place."
)

# --- privacy ---
_PRIVACY: Final = Group("Privacy", ("kyc-worker",))

KYC_DATA_DELETED: Final = CounterMetric(
    _PRIVACY, "safevideo_kyc_data_deleted_total",
    "KYC requests whose documents and applicant were deleted, by reason: retention or erasure.", ("reason",),
)  # fmt: skip
KYC_DATA_HELD: Final = GaugeMetric(
    _PRIVACY, "safevideo_kyc_data_held", "KYC requests whose data a legal hold keeps after its retention."
)

# --- the API ---
_API: Final = Group("API", GATEWAY)

PERFORMER_READS: Final = CounterMetric(
    _API,
    "safevideo_performer_reads_total",
    "Performers read, by source: cache or database.",
    ("source",),
)
REQUESTS_REFUSED: Final = CounterMetric(
    _API,
    "safevideo_api_requests_refused_total",
    "Requests that were refused because of their caller, by code: wrong credentials, role or rate.",
    ("code",),
)

SIGN_INS: Final = CounterMetric(
    _API,
    "safevideo_sign_ins_total",
    "Sign-ins by provider and outcome: signed_in, refused, or unavailable (no session could be made).",
    ("provider", "outcome"),
)

METRICS: Final[tuple[Metric, ...]] = tuple(each for each in globals().values() if isinstance(each, Metric))
"""All metrics, in the order above."""
