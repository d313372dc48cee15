"""Runs the demo's processes: starts them, sees that they live, kills one midway, hears what the algorithm tells."""

import asyncio
from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter

from lightning_store.contract import LightningStore
from lightning_store.demo.accident import Accident, count_run_again, is_worker_of, kill_busy_runner
from lightning_store.demo.options import DemoOptions
from lightning_store.demo.processes import Child, Children
from lightning_store.demo.training import BatchReport, TrainingResult, TrainingSettings, decode
from lightning_store.demo.view import Frame, Process, View
from lightning_store.errors import LightningStoreError
from lightning_store.records import Worker
from lightning_store.status import ACTIVE, FINISHED, QUEUED

COMMAND: Final = "lightning_store"
TRAINER: Final = "lightning_store.demo.trainer"
AGENT: Final = "lightning_store.demo.agent:agent"

TICK_SECONDS: Final = 0.1
HUNT_SECONDS: Final = 0.01
"""The same while a runner is to be killed: a small batch is over quickly."""


class DemoError(LightningStoreError):
    """The demo cannot go on."""


class Supervisor:
    """One run of the demo on a store."""

    def __init__(self, options: DemoOptions, store: LightningStore, children: Children, view: View) -> None:
        """Set up; nothing is started."""
        self._options = options
        self._store = store
        self._children = children
        self._view = view
        self._algorithm: Child | None = None
        self._healthcheck: Child | None = None
        self._runners: list[Child] = []
        self._latest: BatchReport | None = None
        self._curve: list[float] = []
        self._run_again = 0
        self.accident: Accident | None = None

    async def run(self) -> TrainingResult:
        """Start everything and watch until the algorithm has its result.

        Raises:
            DemoError: A process ended that should not have.
        """
        self._start()
        while (result := self._listen()) is None:
            self._check()
            if self._is_midway():
                await self._cause_accident()
            await self._follow_retries()
            if self._view.is_live:
                self._view.show(await self._frame())
            await asyncio.sleep(HUNT_SECONDS if self._is_midway() else TICK_SECONDS)
        if self._view.is_live:
            self._view.show(await self._frame())
        return result

    # -- processes ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._healthcheck = self._children.start("healthcheck", COMMAND, "healthcheck")
        for _ in range(self._options.runners):
            self._start_runner()
        settings = TypeAdapter(TrainingSettings).dump_json(self._options.settings).decode()
        self._algorithm = self._children.start("algorithm", TRAINER, settings, is_read=True)
        pids = ", ".join(f"{child.name} {child.pid}" for child in self._all())
        self._view.tell(f"started {pids}")

    def _start_runner(self) -> Child:
        concurrency, lease = str(self._options.concurrency), str(self._options.lease_seconds)
        name = f"runner-{len(self._runners) + 1}"
        runner = self._children.start(
            name, COMMAND, "run", AGENT, "--concurrency", concurrency, "--lease-seconds", lease
        )
        self._runners.append(runner)
        return runner

    def _all(self) -> list[Child]:
        return [child for child in (self._healthcheck, *self._runners, self._algorithm) if child is not None]

    def _is_killed(self, child: Child) -> bool:
        return self.accident is not None and self.accident.pid == child.pid

    def _check(self) -> None:
        """See that every process still runs that should."""
        for child in self._all():
            if child.exit_code is not None and not self._is_killed(child):
                raise DemoError(
                    f"{child.name} ended with {child.exit_code}: {child.last_words() or 'no word'} (see {child.log})"
                )

    # -- the accident ------------------------------------------------------------------------------------------------

    def _is_midway(self) -> bool:
        """Whether it is time to kill a runner: a batch is being played, half of the versions are behind us."""
        latest = self._latest
        if self.accident is not None or latest is None or (latest.phase, latest.mode) != ("enqueued", "train"):
            return False
        return latest.version > self._options.iterations // 2

    async def _cause_accident(self) -> None:
        self.accident = await kill_busy_runner(self._store, self._runners)
        if self.accident is not None:
            replacement = self._start_runner()
            self._view.tell(
                f"killed {self.accident.runner} ({self.accident.pid}) with SIGKILL while it held "
                f"{len(self.accident.held)} rollouts; started {replacement.name} ({replacement.pid})"
            )

    async def _follow_retries(self) -> None:
        if self.accident is None or self._run_again == len(self.accident.held):
            return
        self._run_again = await count_run_again(self._store, self.accident)
        if self._run_again == len(self.accident.held):
            self._view.tell(f"all {self._run_again} rollouts that {self.accident.runner} held run again elsewhere")

    # -- what is told ------------------------------------------------------------------------------------------------

    def _listen(self) -> TrainingResult | None:
        """Hear what the algorithm tells; its result if it has one."""
        for line in self._algorithm.read_lines() if self._algorithm else ():
            message = decode(line)
            if isinstance(message, TrainingResult):
                return message
            self._hear(message)
        return None

    def _hear(self, report: BatchReport) -> None:
        self._latest = report
        purpose = "training tasks" if report.mode == "train" else "held-out tasks"
        if report.phase == "enqueued" or report.mean_reward is None:
            return
        if report.mode == "train":
            self._curve.append(report.mean_reward)
        self._view.tell(
            f"version {report.version}: mean reward {report.mean_reward:.3f} "
            f"over {report.rollouts} rollouts of {purpose}"
        )

    async def _frame(self) -> Frame:
        by_status = (await self._store.statistics())["rollouts_by_status"]
        queued, active, finished = (
            sum(by_status.get(status, 0) for status in statuses) for statuses in (QUEUED, ACTIVE, FINISHED)
        )
        workers = (await self._store.query_workers()).items
        return Frame(
            planned=self._options.planned_rollouts,
            finished=finished,
            queued=queued,
            active=active,
            version=self._latest.version if self._latest else 0,
            retries=self._retries(),
            processes=[self._process(child, workers) for child in self._all()],
            curve=self._curve,
        )

    def _process(self, child: Child, workers: Sequence[Worker]) -> Process:
        """A process and what it is doing, as the store knows it."""
        if self._is_killed(child):
            return Process(child.name, child.pid, "killed with SIGKILL", is_gone=True)
        states = {self._healthcheck: "expires attempts of silent runners", self._algorithm: self._doing()}
        return Process(child.name, child.pid, states.get(child) or runner_state(child, workers))

    def _doing(self) -> str:
        """What the algorithm is doing."""
        if self._latest is None:
            return "starting"
        if self._latest.phase == "finished":
            return "learning"
        return f"follows the {self._latest.rollouts} rollouts of version {self._latest.version}"

    def _retries(self) -> str:
        if self.accident is None:
            return "none yet"
        return f"{self.accident.runner} killed, {self._run_again} of {len(self.accident.held)} it held run again"


def runner_state(runner: Child, workers: Sequence[Worker]) -> str:
    """What a runner is doing, as the store knows it."""
    own = [worker for worker in workers if is_worker_of(worker, runner)]
    if not own:
        return "starting"
    busy = sum(worker.status == "busy" for worker in own)
    return f"plays {busy}" if busy else "waits for work"
