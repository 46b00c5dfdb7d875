"""The schema's changes in order, one file each under `versions/`, run by `safevideo migrate`.

A migration makes one change, a table or an index, since MySQL commits each by itself; it can run again after it was cut
off, since it first looks whether its change is there (`operations.py`). It only ever adds: while a new build is
rolled out, the one before it goes on working on the migrated schema. For the same reason there is no way down.
"""
