"""Calls to Sharegram: one client for each process, as layers of which each knows only the next (`layers.py`).

client.py         the typed methods, and how the layers are put together
operations.py     each call of the contract's §11: method, shape, time, whether it may be repeated
errors.py         the failures, and the table of what each means for retries and the breaker
layers.py, retry.py, concurrency.py, http.py, transport.py     the layers, from the outside in
idempotency.py    the keys of writes, stored before they are sent
port.py           what `resilience` implements: breaker, fallback mode, rate budget
"""
