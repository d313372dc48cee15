"""Enqueue tasks, run an agent on them, wait, and read the rewards: all in one program, on a Redis of its own."""

import asyncio

from lightning_store import EmbeddedRedis, EnqueueRolloutRequest, RedisLightningStore, RolloutConfig, Runner, emit_reward


def agent(rollout, resources, tracer):
    with tracer.start_as_current_span("guess"):
        guess = 6 * 7
    emit_reward(1.0 if guess == rollout.input["answer"] else 0.0)


async def main(url):
    store = RedisLightningStore(url)
    runner = Runner(store, agent, concurrency=4)
    running = asyncio.create_task(runner.run())
    config = RolloutConfig(max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"])
    tasks = [EnqueueRolloutRequest(input={"answer": answer}, config=config) for answer in range(40, 45)]
    rollouts = await store.enqueue_many_rollouts(tasks)
    ids = [rollout.rollout_id for rollout in rollouts]
    finished = await store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    print([rollout.status for rollout in finished], list((await store.rewards(ids)).values()))
    runner.stop()
    await running
    await store.close()


if __name__ == "__main__":
    with EmbeddedRedis() as redis:
        asyncio.run(main(redis.url))
