"""`python -m webhook_ingest`, and the command `webhook-ingest`."""

from safevideo_common.service import report_startup_error
from safevideo_common.settings import load_settings
from webhook_ingest.app import SERVICE, build_app
from webhook_ingest.settings import IngestSettings
from webhook_ingest.workers.running import run_workers


def main() -> None:
    """Run the service, in as many processes as it is set to, until it is told to stop."""
    with report_startup_error(SERVICE):
        settings = load_settings(IngestSettings)
        run_workers(SERVICE, settings, settings.ingest_workers, build_app)


if __name__ == "__main__":
    main()
