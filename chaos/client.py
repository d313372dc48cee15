"""A client process: runner, daemon or algorithm, with a journal of its calls and a clock that can be set wrong.

    python -m chaos.client '{"role": "runner", ...}'

The store's URL comes from the environment.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from chaos.clocks import follow

URL_VARIABLE: Final = "LIGHTNING_STORE_URL"


def main(order: dict[str, Any]) -> int:
    """Do what the order says, until a signal."""
    follow(Path(order.pop("clock")))
    from chaos.roles import ROLES, Order  # noqa: PLC0415 - must see the followed clock from the beginning

    role = ROLES[order.pop("role")]
    return role(Order(url=os.environ[URL_VARIABLE], **order))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
