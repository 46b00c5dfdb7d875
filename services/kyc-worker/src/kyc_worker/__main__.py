"""`python -m kyc_worker`, and the command `kyc-worker`."""

from kyc_worker.app import SERVICE, build_app
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.service import run_service


def main() -> None:
    """Run the service until it is stopped."""
    run_service(SERVICE, KycWorkerSettings, build_app)


if __name__ == "__main__":
    main()
