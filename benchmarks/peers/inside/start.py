"""Starts one side of a contender: `python start.py with_rq work`, or `feed`; or `stores_ours calls`.

Its module is imported by name, not run as `__main__`, because some peers find jobs by the name of their module.
"""

import asyncio
import importlib
import logging
import sys

from operations import answer_calls
from recording import feed


async def _feed(module):
    async with module.giving() as give:
        await feed(give)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    contender = importlib.import_module(sys.argv[1])
    if sys.argv[2] == "work":
        sys.stdout = sys.stderr  # nobody reads what a worker prints
        contender.work()
    elif sys.argv[2] == "feed":
        asyncio.run(_feed(contender))
    else:
        asyncio.run(answer_calls(contender))
