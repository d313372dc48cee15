"""The algorithm's process: reads settings from its command line, tells what happens on its standard output.

    python -m lightning_store.demo.trainer '{"seed": 0, "iterations": 12}'

The store is named by `LIGHTNING_STORE_URL` and `LIGHTNING_STORE_NAMESPACE`. Each line it writes is a JSON object with
one key: `report` with a batch's report, and at the end `result`.
"""

import asyncio
import os
import sys

from pydantic import TypeAdapter

from lightning_store.connect import open_store
from lightning_store.demo.algorithm import train
from lightning_store.demo.tasks import load_tasks
from lightning_store.demo.training import BatchReport, TrainingResult, TrainingSettings, encode


async def main(settings: TrainingSettings) -> None:
    """Train on the store that the environment names."""
    store = open_store(os.environ["LIGHTNING_STORE_URL"], os.environ["LIGHTNING_STORE_NAMESPACE"])
    try:
        _say(await train(store, load_tasks(), settings, _say))
    finally:
        await store.close()


def _say(message: BatchReport | TrainingResult) -> None:
    sys.stdout.write(encode(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(TypeAdapter(TrainingSettings).validate_json(sys.argv[1])))
