"""The checker of the chaos report finds each kind of violation, and nothing in a history that is sound."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chaos import rules
from chaos.evidence import Evidence, Window
from chaos.findings import Fate, Verdict
from chaos.plan import Fault
from chaos.state import FinalState, StoredAttempt, StoredRollout
from tests.support.chaos_story import START, Story, sound_story

Damage = Callable[[Story], None]
LATER = 10_000.0


def lose(story: Story):
    del story.rollouts["ro-1"]


def never_finish(story: Story):
    story.change("ro-1", status="running", ended=None)


def never_finish_what_has_no_answer(story: Story):
    story.change("ro-3", status="queuing", ended=None)


def make_up(story: Story):
    story.rollouts["ro-9"] = StoredRollout("ro-9", {"task": 9, "kind": "plain"}, "succeeded")


def keep_what_was_refused(story: Story):
    story.rollouts["ro-4"] = StoredRollout("ro-4", {"task": 4, "kind": "plain"}, "succeeded")


def enqueue_twice(story: Story):
    story.rollouts["ro-3b"] = replace(story.rollouts["ro-3"], rollout_id="ro-3b")


def give_another_id(story: Story):
    story.rollouts["ro-1b"] = replace(story.rollouts.pop("ro-1"), rollout_id="ro-1b")


def hand_out_twice(story: Story):
    answer = {"rollout": "ro-1", "task": 1, "attempt": "at-x", "sequence": 1}
    story.call("dequeue_rollout", {"worker": "runner-7.1"}, answer, process="runner-7.1")


def hand_out_the_same_attempt_twice(story: Story):
    answer = {"rollout": "ro-1", "task": 1, "attempt": "at-1", "sequence": 1}
    story.call("dequeue_rollout", {"worker": "runner-7.1"}, answer, process="runner-7.1")


def hand_out_what_is_not_there(story: Story):
    answer = {"rollout": "ro-x", "task": 77, "attempt": "at-1", "sequence": 1}
    story.call("dequeue_rollout", {"worker": "runner-7.1"}, answer, process="runner-7.1")


def forget_a_claim(story: Story):
    story.change("ro-2", attempts=story.rollouts["ro-2"].attempts[1:])


def claim_for_nobody(story: Story):
    attempt = StoredAttempt("at-x", "succeeded", LATER, worker="nobody")
    story.change("ro-2", attempts=[*story.rollouts["ro-2"].attempts[:-1], attempt])


def work_on_what_nobody_was_handed(story: Story):
    attempt = StoredAttempt("at-x", "unresponsive", START, cause="worker_lost", worker="runner-1.1", spans=("zz",))
    story.change("ro-2", attempts=[attempt, *story.rollouts["ro-2"].attempts[1:]])


def renew_what_another_has(story: Story):
    story.renew("ro-2", "at-1", "current")


def complete_twice_in_the_log(story: Story):
    story.completions.append(("9-0", "ro-1", "succeeded"))


def leave_out_of_the_log(story: Story):
    del story.completions[0]


def log_another_end(story: Story):
    story.completions[0] = ("1-0", "ro-1", "failed")


def log_what_is_not_there(story: Story):
    story.completions.append(("9-0", "ro-x", "succeeded"))


def claim_after_a_success(story: Story):
    ended = StoredAttempt("at-2", "succeeded", LATER, LATER + 1, worker="runner-1.1")
    story.change("ro-1", attempts=[*story.rollouts["ro-1"].attempts, ended], ended=LATER + 1)


def claim_after_the_end(story: Story):
    attempt = StoredAttempt("at-2", "failed", LATER, LATER + 1, worker="runner-1.1")
    story.change("ro-3", attempts=[*story.rollouts["ro-3"].attempts, attempt])


def end_otherwise_than_its_work(story: Story):
    story.change("ro-1", status="failed")


def end_otherwise_than_its_attempt(story: Story):
    story.change_attempt("ro-1", "at-1", status="unresponsive")


def forget_an_acknowledged_success(story: Story):
    story.change_attempt("ro-1", "at-1", status="timeout")


def answer_a_report_wrongly(story: Story):
    asked = {"rollout": "ro-1", "attempt": "at-1", "status": "succeeded"}
    story.call("update_attempt", asked, {"status": "running"})


def report_what_is_not_there(story: Story):
    asked = {"rollout": "ro-1", "attempt": "at-x", "status": "succeeded"}
    story.call("update_attempt", asked, {"status": "succeeded"})


def let_an_old_report_win(story: Story):
    asked = {"rollout": "ro-1", "attempt": "at-1", "status": "failed"}
    story.call("update_attempt", asked, {"status": "failed"})


def succeed_unreported(story: Story):
    for call in list(story.calls):
        if call.operation == "update_attempt" and call.asked["rollout"] == "ro-2":
            story.calls.remove(call)


def lose_a_span(story: Story):
    story.change_attempt("ro-1", "at-1", spans=())


def store_a_span_twice(story: Story):
    story.change_attempt("ro-1", "at-1", spans=("aa", "aa"))


def store_a_span_of_nobody(story: Story):
    story.change_attempt("ro-1", "at-1", spans=("aa", "zz"))


def lose_a_reward(story: Story):
    story.change("ro-1", reward=None)


def lose_a_version(story: Story):
    story.resources["rs"] = 1


def count_a_version_twice(story: Story):
    story.resources["rs"] = 3


def answer_the_same_version_twice(story: Story):
    story.publish(2)


def skip_a_completion(story: Story):
    index = next(number for number, call in enumerate(story.calls) if call.operation == "completions")
    story.calls[index] = replace(story.calls[index], answer=story.calls[index].answer[1:])


def read_a_completion_again(story: Story):
    story.read_completions()


def read_a_completion_that_is_not_there(story: Story):
    story.call("completions", {"after": None}, [["0-1", "ro-1", "succeeded"]], process="algorithm.1")


def tell_a_waiter_another_end(story: Story):
    story.call("wait_for_rollouts", {}, [["ro-1", "failed"]], process="algorithm.1")


def forget_a_cancel(story: Story):
    story.change("ro-6", status="succeeded")


def cancel_for_nobody(story: Story):
    story.change("ro-1", status="cancelled")


LOST, COMPLETED, CLAIMED, UNEXPECTED = Verdict
DAMAGES: list[tuple[Damage, Verdict, str, str]] = [
    (lose, LOST, "ro-1", "not there"),
    (never_finish, LOST, "ro-1", "never finished"),
    (never_finish_what_has_no_answer, LOST, "ro-3", "never finished"),
    (make_up, UNEXPECTED, "ro-9", "nobody enqueued"),
    (keep_what_was_refused, UNEXPECTED, "ro-4", "was refused"),
    (enqueue_twice, UNEXPECTED, "ro-3b", "one of 2 rollouts"),
    (give_another_id, UNEXPECTED, "ro-1b", "is not the id"),
    (hand_out_twice, CLAIMED, "ro-1", "attempt 1 was handed to runner-0.1 call 3, runner-7.1"),
    (hand_out_the_same_attempt_twice, CLAIMED, "ro-1", "attempt 1 was handed to"),
    (hand_out_what_is_not_there, UNEXPECTED, "ro-x", "is not there"),
    (forget_a_claim, UNEXPECTED, "ro-2", "was handed attempt 1 as at-1"),
    (claim_for_nobody, UNEXPECTED, "ro-2", "was claimed by nobody"),
    (work_on_what_nobody_was_handed, UNEXPECTED, "ro-2", "was claimed by nobody"),
    (renew_what_another_has, UNEXPECTED, "ro-2", "after the next attempt was claimed"),
    (complete_twice_in_the_log, COMPLETED, "ro-1", "in the completion log 2 times"),
    (leave_out_of_the_log, UNEXPECTED, "ro-1", "the completion log says []"),
    (log_another_end, UNEXPECTED, "ro-1", "the completion log says ['failed']"),
    (log_what_is_not_there, UNEXPECTED, "ro-x", "in the completion log and not there"),
    (claim_after_a_success, COMPLETED, "ro-1", "had succeeded before at-2 was claimed"),
    (claim_after_the_end, UNEXPECTED, "ro-3", "was claimed after the end"),
    (forget_a_cancel, UNEXPECTED, "ro-6", "was told that it is cancelled, it is succeeded"),
    (cancel_for_nobody, UNEXPECTED, "ro-1", "is cancelled, which nobody asked for"),
    (end_otherwise_than_its_work, UNEXPECTED, "ro-1", "its work is rewarded"),
    (end_otherwise_than_its_attempt, UNEXPECTED, "ro-1", "its last attempt unresponsive"),
    (forget_an_acknowledged_success, UNEXPECTED, "ro-1", "reported succeeded, at-1 is timeout"),
    (answer_a_report_wrongly, UNEXPECTED, "ro-1", "the answer is running"),
    (report_what_is_not_there, UNEXPECTED, "ro-1", "which is not there"),
    (let_an_old_report_win, UNEXPECTED, "ro-1", "reported failed, at-1 is succeeded"),
    (succeed_unreported, UNEXPECTED, "ro-2", "which nobody reported"),
    (lose_a_span, UNEXPECTED, "ro-1", "span aa was acknowledged"),
    (store_a_span_twice, UNEXPECTED, "ro-1", "span aa is stored 2 times"),
    (store_a_span_of_nobody, UNEXPECTED, "ro-1", "span zz was sent by nobody"),
    (lose_a_reward, UNEXPECTED, "ro-1", "has the reward None"),
    (lose_a_version, UNEXPECTED, "rs", "is at version 1"),
    (count_a_version_twice, UNEXPECTED, "rs", "is at version 3"),
    (answer_the_same_version_twice, UNEXPECTED, "rs", "versions do not grow"),
    (skip_a_completion, UNEXPECTED, "ro-1", "was read 0 times"),
    (read_a_completion_again, UNEXPECTED, "ro-1", "was read 2 times"),
    (read_a_completion_that_is_not_there, UNEXPECTED, "ro-1", "is not in the log"),
    (tell_a_waiter_another_end, UNEXPECTED, "ro-1", "was told that it is failed"),
]


def test_nothing_is_found_in_a_sound_history():
    judgement = sound_story().judged()

    assert judgement.findings == []
    assert judgement.fates == {
        Fate.FINISHED: 3, Fate.UNANSWERED_FINISHED: 1, Fate.REFUSED: 1, Fate.UNANSWERED_ABSENT: 1,
    }  # fmt: skip
    assert set(judgement.counts().values()) == {0}


@pytest.mark.parametrize(
    ("damage", "verdict", "subject", "problem"), DAMAGES, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_kind_of_damage_is_found(damage, verdict, subject, problem):
    story = sound_story()
    damage(story)

    judgement = story.judged()

    matching = [each for each in judgement.findings if each.verdict is verdict and each.subject == subject]
    assert any(problem in each.problem for each in matching), judgement.findings
    assert judgement.counts()[verdict] >= 1
    if subject.startswith("ro-"):
        assert sum(
            judgement.fates[fate] for fate in (Fate.LOST, Fate.COMPLETED_TWICE, Fate.CLAIMED_TWICE, Fate.UNEXPECTED)
        ) >= (subject != "ro-x")


def test_every_rule_is_broken_by_some_damage():
    broken = set()
    for damage, *_ in DAMAGES:
        story = sound_story()
        damage(story)
        evidence = Evidence(story.calls, FinalState(story.rollouts, story.completions, story.resources))
        broken |= {rule for rule in rules.RULES if any(rule(evidence))}

    assert broken == set(rules.RULES)


@pytest.mark.parametrize("outcome", ["unknown", "failed"])
def test_a_report_without_answer_may_act_whenever_and_a_refused_one_never(outcome):
    story = Story()
    id = story.enqueue(1)
    attempt = story.claim(id)
    story.call("update_attempt", {"rollout": id, "attempt": attempt, "status": "failed"}, outcome=outcome)
    story.report(id, attempt)
    assert story.judged().findings == []

    story.change_attempt(id, attempt, status="failed")
    found = [each for each in story.judged().findings if "reported" in each.problem]
    assert bool(found) is (outcome == "failed")


@pytest.mark.parametrize("cause", ["released", "worker_lost"])
def test_a_try_that_a_claim_gave_up_is_given_back_or_ends_by_its_lease(cause):
    story = Story()
    id = story.enqueue(1)
    tried = StoredAttempt("at-given-up", "failed" if cause == "released" else "unresponsive", START, cause=cause,
                          worker="runner-0.1")  # fmt: skip
    story.change(id, attempts=[tried])
    story.report(id, story.claim(id))

    assert story.judged().findings == []


# -- power cuts -------------------------------------------------------------------------------------------------------


def cut_story(damage: Damage) -> Story:
    story = sound_story()
    damage(story)
    story.windows.append(Window(START, story.now, Fault.POWER_CUT))
    return story


def test_what_was_acknowledged_in_the_last_second_may_be_gone_and_is_counted():
    story = Story()
    id = story.enqueue(1)
    story.windows.append(Window(story.now - 1.5, story.now + 0.5, Fault.POWER_CUT))
    lost = story.rollouts.pop(id)
    judgement = story.judged()

    assert judgement.findings == []
    assert judgement.fates == {Fate.EXCUSED: 1}
    assert judgement.excused == {(Fault.POWER_CUT, "enqueued rollouts"): 1}
    assert judgement.longest_excused_seconds == pytest.approx(1.5)
    assert lost.rollout_id == id


def test_a_claim_that_was_lost_may_be_handed_out_again():
    story = Story()
    id = story.enqueue(1)
    before = story.rollouts[id]
    story.claim(id)
    story.add_span(id, "at-1", "aa")
    story.report(id, "at-1")
    story.windows.append(Window(story.now - 5.9, story.now, Fault.POWER_CUT))
    story.rollouts[id], story.completions = before, []
    story.claim(id, process="runner-1.1", attempt_id="at-other")
    story.report(id, "at-other")
    judgement = story.judged()

    assert judgement.findings == []
    assert judgement.excused == {(Fault.POWER_CUT, kind): 1 for kind in ("claims", "spans", "reports of an end")}


def test_what_was_acknowledged_before_the_last_second_may_not_be_gone():
    story = Story()
    id = story.enqueue(1)
    story.windows.append(Window(story.now + 1.0, story.now + 2.0, Fault.POWER_CUT))
    del story.rollouts[id]

    assert story.judged().counts()[Verdict.LOST] == 1


@pytest.mark.parametrize("damage", [make_up, keep_what_was_refused, complete_twice_in_the_log, claim_after_a_success])
def test_no_power_cut_excuses_what_it_cannot_cause(damage):
    assert cut_story(damage).judged().findings
