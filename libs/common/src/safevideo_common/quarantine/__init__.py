"""The quarantine: webhooks with a rejected signature, stored so that they can be verified again (contract, §7).

webhook-ingest writes it (`store.py`) and limits its size (`limits.py`). The gateway lists it (`queries.py`) and
releases webhooks from it (`store.py`).
"""
