"""Replay: the job `event_replay` reads a range of a topic again, beside the live flow (contract, §8.4).

    plan ──▶ for each partition: read ──▶ filter ──▶ apply, or preview ──▶ result
      │                            ▲                    │
      └─ fixes the range           └──── throttle ◀─────┘ each transaction saves the checkpoint with its work

A replay has its own reader without a consumer group, so it never changes the offsets of the live flow. Replay and live
consumption are safe together for the same reason two consumers are: inbox row, row lock, per-field write versions.

    missing only   applies events that are not in the inbox, like new ones, and skips all others
    force          decides every event again: fields that a newer event wrote stay, the others get the event's value
    dry run        decides in memory, on states that are not locked, and writes nothing except the job's row
"""
