"""What to type next."""

from pathlib import Path
from typing import Final

SERVING: Final = "It serves until Ctrl-C."


def next_steps(env: Path) -> str:
    """Four things to try in another terminal, on the variables of `env`."""
    here = Path.cwd()
    shown = env.relative_to(here) if env.is_relative_to(here) else env
    return f"""\
{SERVING} In another terminal:

  . {shown}
  curl -X POST $SAFEVIDEO_SIMULATOR_URL/_sim/performers -d '{{"count": 3}}'
  curl -X POST $SAFEVIDEO_WEBHOOK_URL -H "Content-Type: application/json" -d '{{"test": true}}'
  curl -H "X-API-Client: $SAFEVIDEO_API_CLIENT" -H "X-API-Key: $SAFEVIDEO_API_KEY" \\
       "$SAFEVIDEO_GATEWAY_URL/api/v1/admin/events"
  curl $SAFEVIDEO_GATEWAY_URL/api/integration/health

The logs are in $LOG_DIR, the processes in {shown.with_name("pids")}.
"""
