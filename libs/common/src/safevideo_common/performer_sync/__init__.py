"""The sync of performers: Sharegram's own records are written over what its webhooks have left here.

- `mirror.py` writes records and deletions, with the change events, in the transaction of its caller.
- `one.py` syncs one performer while a person waits. `request.py` queues the jobs that sync all of them.
"""
