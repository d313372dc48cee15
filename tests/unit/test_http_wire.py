"""How values, arguments and answers are written and read."""

import json
import math

import pytest
from pydantic import ValidationError

from lightning_store.http.protocol import is_key, read_json, standard_json, write_json
from lightning_store.http.wire import CODECS
from lightning_store.records import EnqueueRolloutRequest, PaginatedResult, Rollout, RolloutConfig, Worker
from lightning_store.spans import Span
from tests.support.factories import make_span, rich_span
from tests.support.values import SURROGATES, TRICKY, same


@pytest.mark.parametrize("value", [*TRICKY.values(), TRICKY, SURROGATES], ids=lambda _: "")
def test_any_value_comes_back_as_it_was(value):
    assert same(read_json(write_json(value)), value)
    rollout = Rollout(rollout_id="r", input=value, start_time=1.5, metadata={"v": value})
    assert same(read_json(write_json([rollout]))[0], rollout.model_dump())


def test_spans_keep_what_numbers_they_have_everywhere():
    span = rich_span("r", "a", end_time=math.inf, attributes={"nan": math.nan, "list": [1.0, math.inf]}, extra=TRICKY)
    codec = CODECS["add_span"]
    again = codec.read_body(codec.write_body({"span": span}))["span"]
    assert isinstance(again, Span)
    assert same(again.model_dump(), span.model_dump())


@pytest.mark.parametrize("value", [TRICKY, SURROGATES], ids=["tricky", "surrogates"])
def test_others_get_json_as_the_standard_has_it(value):
    text = standard_json(write_json(value))

    def refuse(constant):
        raise AssertionError(constant)

    again = json.loads(text.decode("utf-8"), parse_constant=refuse)
    lost = [key for key in value if not same(again[key], value[key])]
    assert set(lost) <= {"nan", "infinity", "minus infinity", "split pair"}
    assert all(again[key] is None for key in lost if key != "split pair")


def test_text_that_looks_like_such_a_number_is_kept():
    assert standard_json(b'{"a":"NaN Infinity"}') == b'{"a":"NaN Infinity"}'


def test_what_was_left_out_is_absent():
    assert CODECS["update_rollout"].read_body(b'{"mode": null}') == {"mode": None}
    assert CODECS["dequeue_many_rollouts"].read_body(b"") == {}
    assert CODECS["start_rollout"].read_body(b'{"input": null, "mode": null, "queue": null}') == {"input": None}


def test_arguments_are_written_and_read_as_records():
    request = EnqueueRolloutRequest(input={"a": 1}, config=RolloutConfig(max_attempts=2), queue="q")
    codec = CODECS["enqueue_many_rollouts"]
    assert codec.read_body(codec.write_body({"rollouts": [request], "timeout": 1.5})) == {
        "rollouts": [request],
        "timeout": 1.5,
    }


def test_queries_take_a_list_field_several_times_and_ignore_what_they_do_not_know():
    codec = CODECS["query_rollouts"]
    assert codec.read_query(b"status_in=failed&status_in=queuing&limit=3&what=1&rollout_id_contains=%C3%A4+b") == {
        "status_in": ["failed", "queuing"],
        "limit": 3,
        "rollout_id_contains": "ä b",
    }


def test_pages_are_read_as_pages():
    codec = CODECS["query_workers"]
    page = PaginatedResult(items=[Worker(worker_id="w", heartbeat_stats=TRICKY)], limit=-1, offset=0, total=1)
    again = codec.read_answer(codec.write_answer(page, {}), {})
    assert type(again) is PaginatedResult
    assert same(again.model_dump(), page.model_dump())


def test_answer_to_many_spans_says_which_were_stored():
    codec = CODECS["add_many_spans"]
    spans = [make_span("r", "a", span_id=id, sequence_id=7) for id in ("x", "y", "x", "z")]
    stored = [spans[0], spans[3].model_copy(update={"sequence_id": 2})]

    body = codec.write_answer(stored, {"spans": spans})

    assert json.loads(body) == {"stored": [[0, 7], [3, 2]]}
    assert codec.read_answer(body, {"spans": spans})[0] is spans[0]
    numbered = codec.read_answer(body, {"spans": spans, "renumber": True})
    assert [(span.span_id, span.sequence_id) for span in numbered] == [("x", 7), ("z", 2)]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"input": 1} x', b"\xff", b"[" * 10_000, b'{"input": ' + b"1" * 5_000]
)
def test_what_is_no_object_of_json_is_refused(body):
    with pytest.raises(ValidationError):
        CODECS["start_rollout"].read_body(body)


def test_keys():
    assert is_key("0" * 32)
    assert not any(is_key(text) for text in ("", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"))
