"""Agent Lightning's Trainer on Redis: two runner processes try prompts, an algorithm learns which one works.

No model server is needed: `stand_in_model` answers better the clearer its prompt asks. Usage:

    export LIGHTNING_STORE_URL=redis://localhost:6379/0
    python examples/agent_lightning/prompt_bandit.py --rounds 6
"""

import argparse
import asyncio
import os
import random
import secrets
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # importing Agent Lightning downloads a list otherwise

import agentlightning as al

STORE = "lightning_store.integrations.agentlightning.AgentLightningStore"

PROMPTS = {
    "terse": "{question}",
    "polite": "Please answer: {question}",
    "format": "Answer with a number alone: {question}",
    "steps": "Think step by step, then answer with a number alone: {question}",
}

Task = dict[str, Any]


# -- the agent: what the runner processes execute ---------------------------------------------------------------------


def stand_in_model(prompt: str, chance: random.Random) -> str:
    """Adds the two numbers of a question; the better it is asked, the more often it is right and to the point."""
    left, right = (int(word) for word in prompt.split() if word.isdigit())
    total = left + right
    if chance.random() > (0.95 if "step by step" in prompt else 0.6):
        total += chance.choice([-10, -1, 1, 10])
    return str(total) if "number alone" in prompt else f"I believe it is {total}."


@al.rollout
def agent(task: Task, prompt_template: al.PromptTemplate) -> float:
    """One attempt at a task; the reward is 1 for the right number alone, a little for the right one in a sentence."""
    chance = random.Random(task["seed"])  # noqa: S311 - a simulation
    answer = stand_in_model(prompt_template.format(question=task["question"]), chance)
    al.emit_annotation({"prompt": prompt_template.template, "answer": answer})
    if answer == task["expected"]:
        return 1.0
    return 0.2 if task["expected"] in answer else 0.0


# -- the algorithm: what the main process executes --------------------------------------------------------------------


class Belief:
    """What is known of a prompt's reward: a Beta distribution, drawn from to choose what to try next."""

    def __init__(self) -> None:
        self.gained, self.missed = 1.0, 1.0

    def learn(self, reward: float) -> None:
        self.gained += reward
        self.missed += 1 - reward

    @property
    def mean(self) -> float:
        return self.gained / (self.gained + self.missed)


def make_tasks(count: int, chance: random.Random) -> list[Task]:
    numbers = [(chance.randrange(100), chance.randrange(100)) for _ in range(count)]
    return [
        {"question": f"what is {left} + {right} ?", "expected": str(left + right), "seed": chance.randrange(1 << 30)}
        for left, right in numbers
    ]


async def finished(store: al.LightningStore, rollout_ids: Sequence[str]) -> list[al.Rollout]:
    """The rollouts, when all of them have ended."""
    while True:
        done = await store.wait_for_rollouts(rollout_ids=list(rollout_ids), timeout=0)
        if len(done) == len(rollout_ids):
            return done
        await asyncio.sleep(0.1)


async def learn(store: al.LightningStore, rounds: int, batch: int, seed: int) -> list[float]:
    """Choose prompts for a batch of tasks, see what they earn, choose better; answers the mean reward of each round."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    beliefs = {name: Belief() for name in PROMPTS}
    for name, template in PROMPTS.items():
        await store.update_resources(name, {"prompt": al.PromptTemplate(template=template, engine="f-string")})
    curve: list[float] = []
    for number in range(rounds):
        drawn = {
            name: [chance.betavariate(each.gained, each.missed) for _ in range(batch)] for name, each in beliefs.items()
        }
        chosen = [max(PROMPTS, key=lambda name: drawn[name][place]) for place in range(batch)]
        queued = await store.enqueue_many_rollouts(
            [
                al.EnqueueRolloutRequest(input=task, mode="train", resources_id=name)
                for task, name in zip(make_tasks(batch, chance), chosen, strict=True)
            ]
        )
        rewards: list[float] = []
        for rollout in await finished(store, [rollout.rollout_id for rollout in queued]):
            reward = al.find_final_reward(list(await store.query_spans(rollout.rollout_id, "latest"))) or 0.0
            beliefs[rollout.resources_id or ""].learn(reward)
            rewards.append(reward)
        curve.append(sum(rewards) / len(rewards))
        tried = ", ".join(f"{name} {chosen.count(name)}" for name in PROMPTS)
        print(f"round {number + 1}: mean reward {curve[-1]:.2f}   (tried: {tried})", flush=True)
    best = max(beliefs, key=lambda name: beliefs[name].mean)
    print(f"best prompt: {best} ({PROMPTS[best]!r})", flush=True)
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=24, help="tasks per round")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--managed", action="store_true", help="put Agent Lightning's own server in between")
    options = parser.parse_args()
    os.environ.setdefault("LIGHTNING_STORE_NAMESPACE", f"prompt-bandit-{secrets.token_hex(4)}")

    @al.algo
    async def bandit(*, store: al.LightningStore) -> None:
        await learn(store, options.rounds, options.batch, options.seed)

    tracer = al.OtelTracer()
    trainer = al.Trainer(
        algorithm=bandit,
        store=STORE,  # the one line that differs from a program on Agent Lightning's own store
        tracer=tracer,
        runner=al.LitAgentRunner(tracer, poll_interval=0.2, interval_jitter=0.05),
        # Redis is there for all processes, so runners need no server: they claim, trace and report there themselves.
        strategy=al.ClientServerExecutionStrategy(n_runners=2, managed_store=options.managed),
    )
    trainer.fit(agent)


if __name__ == "__main__":
    main()
