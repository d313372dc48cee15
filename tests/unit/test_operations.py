"""The table of operations, and the wrapper that is derived from it."""

import inspect
import re

import pytest

from lightning_store.contract import UNSET, LightningStore
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import OPERATIONS


class Recorder(ForwardingStore):
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []

    async def invoke(self, operation, arguments):
        self.asked.append((operation.name, arguments))
        return len(self.asked)


def contract_methods() -> list[str]:
    members = vars(LightningStore).items()
    return [name for name, member in members if inspect.iscoroutinefunction(member) and name != "close"]


def test_rows_are_the_contract_methods_in_its_order():
    assert list(OPERATIONS) == contract_methods()


def test_paths_take_arguments_of_their_method():
    for operation in OPERATIONS.values():
        names = {part.strip("{}") for part in (operation.path or "").split("/") if part.startswith("{")}
        assert names <= set(operation.signature.parameters), operation.name
        assert (operation.method is None) == (operation.path is None)


def test_routes_are_unambiguous():
    routes = [(operation.method, operation.path) for operation in OPERATIONS.values() if operation.path]
    assert len(set(routes)) == len(routes)


def test_reads_are_idempotent():
    assert all(operation.idempotent for operation in OPERATIONS.values() if not operation.mutates)


def test_what_waits_has_a_timeout():
    waiting = {name for name, operation in OPERATIONS.items() if operation.waits}
    assert waiting == {name for name, row in OPERATIONS.items() if "timeout" in row.signature.parameters}


def test_readers_may_call_exactly_what_changes_nothing():
    assert {name for name, row in OPERATIONS.items() if row.role == "read"} == {
        name for name, row in OPERATIONS.items() if not row.mutates
    }


def test_runners_may_call_what_works_on_an_attempt_and_no_more():
    """Written out: whoever adds a row has to say here whether agents may call it."""
    assert {name for name, row in OPERATIONS.items() if row.role == "runner"} == {
        "dequeue_rollout", "dequeue_many_rollouts", "start_attempt", "update_attempt", "release_attempt", "renew",
        "add_span", "add_many_spans", "add_otel_span", "get_next_span_sequence_id", "get_many_span_sequence_ids",
        "update_worker",
    }  # fmt: skip
    assert {row.role for row in OPERATIONS.values()} == {"read", "runner", "admin"}


async def test_every_operation_is_forwarded_with_the_given_arguments_by_name():
    store = Recorder()
    for name, operation in OPERATIONS.items():
        required = [
            parameter
            for parameter in operation.signature.parameters.values()
            if parameter.default is inspect.Parameter.empty
        ]
        args = [parameter.name for parameter in required if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
        kwargs = {parameter.name: 1 for parameter in required if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        await getattr(store, name)(*args, **kwargs)
        assert store.asked[-1] == (name, {arg: arg for arg in args} | kwargs)


async def test_unset_never_travels():
    store = Recorder()
    await store.update_rollout("r", UNSET, None, status="failed", config=UNSET)
    assert store.asked == [("update_rollout", {"rollout_id": "r", "mode": None, "status": "failed"})]


async def test_wrong_arguments_are_a_type_error():
    with pytest.raises(TypeError):
        await Recorder().get_rollout_by_id()


def test_forwarded_methods_keep_name_doc_and_signature():
    for name in OPERATIONS:
        forwarded, original = getattr(ForwardingStore, name), getattr(LightningStore, name)
        assert inspect.signature(forwarded) == inspect.signature(original)
        assert forwarded.__doc__ == original.__doc__


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_arguments_are_bound_as_python_binds_them(operation):
    names = list(operation.signature.parameters)
    for args, kwargs in (
        ((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {names[0]: 4} if names else {"x": 1}),
        (tuple(range(20)), {}), ((), dict.fromkeys(names, 1)), ((), {"nonsense": 1}), ((1,), {"nonsense": 1}),
    ):  # fmt: skip
        try:
            expected = dict(operation.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            with pytest.raises(TypeError, match=f"^{re.escape(str(error))}$"):
                operation.bind(args, kwargs)
        else:
            assert operation.bind(args, kwargs) == expected
