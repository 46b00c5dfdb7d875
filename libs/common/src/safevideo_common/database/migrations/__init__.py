"""The schema's changes in order, one file each under `versions/`, run by `safevideo migrate`.

A migration makes one change, such as a table with its indexes. MySQL commits each statement by itself, so a migration
may be cut off between two; it can run again, since each statement first looks whether its change is there
(`operations.py`). A migration only ever adds: while a new build is rolled out, the one before it goes on working on the
migrated schema. For the same reason there is no way down.
"""
