"""The example learns: the real Trainer, two runner processes, Redis."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_store import RedisLightningStore

CHECKOUT = Path(__file__).parents[2]
PROGRAM = CHECKOUT / "examples" / "agent_lightning" / "prompt_bandit.py"
ROUNDS = 4


@pytest.mark.timeout(300)
async def test_reward_improves(redis_url, namespace):
    environment = {**os.environ, "LIGHTNING_STORE_URL": redis_url, "LIGHTNING_STORE_NAMESPACE": namespace}
    command = [sys.executable, str(PROGRAM), "--rounds", str(ROUNDS)]
    done = subprocess.run(  # noqa: ASYNC221 - nothing else goes on here
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    curve = [float(reward) for reward in re.findall(r"mean reward (\d\.\d+)", done.stdout)]
    assert len(curve) == ROUNDS
    assert curve[-1] > curve[0] + 0.2
    assert "best prompt: steps" in done.stdout
    store = RedisLightningStore(redis_url, namespace=namespace)
    assert (await store.statistics())["rollouts_by_status"]["succeeded"] == ROUNDS * 24
    assert {worker.worker_id for worker in await store.query_workers()} == {"Worker-0", "Worker-1"}
    await store.close()
