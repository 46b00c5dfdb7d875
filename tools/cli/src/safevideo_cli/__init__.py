"""The command `safevideo` (contract, §13): one module a noun, put together in `app.py`.

Exit code 0 says done, 1 failed, 2 bad usage. With `--json` the result is one JSON document on stdout; what went wrong
is always a sentence on stderr.
"""

from safevideo_cli.app import main

__all__ = ["main"]
