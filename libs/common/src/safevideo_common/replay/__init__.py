"""Replay: a range of a topic is read again beside the live flow, as the job `event_replay` (contract, §8.4).

    survey ──▶ partition by partition: read ──▶ filter ──▶ apply, or foresee ──▶ result
      │                                 ▲                    │
      └─ what is replayed is fixed here └────── pace ◀───────┘ each step saves the cursor with its work

It reads by itself, without a group, so the live flow's offsets are never touched. What keeps the two apart is what
keeps two members apart that have the same event: the inbox row, the locked state, and the stamps of the fields.

    not forced   what the inbox lacks is applied as if it came now; of all else nothing is read but the inbox
    forced       every event is decided again: fields that a newer event wrote stay, the rest is as the log says
    dry          the same decided in memory, on states that nobody locks; nothing is written but the job's own row
"""
