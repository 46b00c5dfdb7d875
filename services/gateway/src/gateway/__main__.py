"""`python -m gateway`, and the command `gateway`."""

from gateway.app import SERVICE, build_app
from gateway.documents.isolation import make_undumpable
from gateway.settings import GatewaySettings
from safevideo_common.service import run_service


def main() -> None:
    """Run the service until a signal stops it."""
    make_undumpable()  # a converter of documents runs as the same user
    run_service(SERVICE, GatewaySettings, build_app)


if __name__ == "__main__":
    main()
