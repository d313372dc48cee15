"""A client's wall clock is wrong by what is said from outside, its monotonic clock is not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from chaos.clocks import set_shift

CHECKOUT = Path(__file__).parents[2]
HOUR = 3600.0

TELLS = """
import json, sys, time
from pathlib import Path
from chaos.clocks import follow
follow(Path(sys.argv[1]))
import datetime
from time import time_ns
from lightning_store.clock import SystemClock
for _ in sys.stdin:
    now = datetime.datetime.now(datetime.timezone.utc)
    print(json.dumps({
        "time": time.time(), "nanos": time_ns() / 1e9, "ours": SystemClock().now(), "datetime": now.timestamp(),
        "utc": datetime.datetime.utcnow().replace(tzinfo=datetime.timezone.utc).timestamp(),
        "monotonic": time.monotonic(),
    }), flush=True)
"""


def test_clock_is_set_wrong_and_right_again_while_the_process_runs(tmp_path):
    file = tmp_path / "clock"
    set_shift(file, 0.0)
    client = subprocess.Popen(
        [sys.executable, "-c", TELLS, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip

    def told():
        client.stdin.write("\n")
        client.stdin.flush()
        return json.loads(client.stdout.readline())

    with client:
        for shift in (0.0, HOUR, -HOUR, 0.0):
            set_shift(file, shift)
            clocks = told()
            assert abs(clocks.pop("monotonic") - time.monotonic()) < 60
            assert all(abs(clock - time.time() - shift) < 60 for clock in clocks.values()), (shift, clocks)
        client.stdin.close()
    assert client.returncode == 0
