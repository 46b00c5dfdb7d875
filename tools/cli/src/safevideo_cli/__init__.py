"""The command `safevideo` (contract, §13): one module a noun.

Exit code 0 is done, 1 failed, 2 bad usage. With `--json` the result is one JSON document on stdout. An error is always
one sentence on stderr.

Importing this package imports no noun: `app.py` imports the one that the command line names, so a command pays only
for the libraries that it uses.
"""
