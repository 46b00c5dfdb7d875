"""`python -m webhook_ingest`, and the command `webhook-ingest`."""

import sys

from safevideo_common.service import run_service
from webhook_ingest import spool_delivery
from webhook_ingest.app import SERVICE, build_app
from webhook_ingest.settings import IngestSettings


def main() -> None:
    """Run the service until it is told to stop, or deliver what the spool has and end: `deliver-spool`."""
    match sys.argv[1:]:
        case []:
            run_service(SERVICE, IngestSettings, build_app)
        case ["deliver-spool"]:
            spool_delivery.run()
        case _:
            sys.exit(f"usage: {SERVICE} [deliver-spool]")


if __name__ == "__main__":
    main()
