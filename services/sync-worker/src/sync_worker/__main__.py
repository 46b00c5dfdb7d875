"""`python -m sync_worker`, and the command `sync-worker`."""

from safevideo_common.service import run_service
from sync_worker.app import SERVICE, build_app
from sync_worker.settings import SyncWorkerSettings


def main() -> None:
    """Run the service until it is stopped."""
    run_service(SERVICE, SyncWorkerSettings, build_app)


if __name__ == "__main__":
    main()
