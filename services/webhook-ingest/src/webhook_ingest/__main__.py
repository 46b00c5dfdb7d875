"""`python -m webhook_ingest`, and the command `webhook-ingest`."""

from safevideo_common.service import run_service
from webhook_ingest.app import SERVICE, build_app
from webhook_ingest.settings import IngestSettings


def main() -> None:
    """Run the service until it is told to stop."""
    run_service(SERVICE, IngestSettings, build_app)


if __name__ == "__main__":
    main()
