import asyncio

from lightning_store import EmbeddedRedis, RedisLightningStore, Runner, emit_reward


def agent(rollout, resources, tracer):
    with tracer.start_as_current_span("think"):
        guess = 6 * 7
    emit_reward(1.0 if guess == rollout.input["answer"] else 0.0)


async def main(url):
    store = RedisLightningStore(url)
    rollouts = [await store.enqueue_rollout({"answer": answer}) for answer in range(40, 45)]
    ids = [rollout.rollout_id for rollout in rollouts]
    runner = Runner(store, agent, concurrency=4)
    running = asyncio.create_task(runner.run())
    finished = await store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    print([rollout.status for rollout in finished], await store.rewards(ids))
    runner.stop()
    await running
    await store.close()


if __name__ == "__main__":
    with EmbeddedRedis() as redis:
        asyncio.run(main(redis.url))
