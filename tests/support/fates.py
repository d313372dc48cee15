"""What became of rollouts, for the message of a test that waited for them in vain."""

from collections.abc import Sequence

from lightning_store.contract import LightningStore


async def fates(store: LightningStore, rollout_ids: Sequence[str]) -> str:
    """Status, attempts and events of each rollout, oldest first; empty if there are none."""
    lines = []
    for rollout_id in rollout_ids:
        rollout = await store.get_rollout_by_id(rollout_id)
        lines.append(f"{rollout_id}: {'unknown' if rollout is None else rollout.status}")
        lines += [f"  {attempt!r}" for attempt in await store.query_attempts(rollout_id)]
        lines += [f"  {event!r}" for event in await store.query_events(rollout_id=rollout_id)]
    return "\n".join(lines)
