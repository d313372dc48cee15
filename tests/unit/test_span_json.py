"""Spans as JSON and back: what pydantic would make of them, and nothing that is no JSON."""

import pickle
from datetime import datetime, timezone

import pytest

from lightning_store.jsonvalue import encode_json_strictly, load_json
from lightning_store.span_json import decode_span, encode_span
from lightning_store.spans import Event, Span, TraceStatus
from tests.support.factories import make_span, rich_span

APART = {"rollout_id", "attempt_id", "sequence_id"}
SPANS = {"plain": make_span("ro-1", "at-1"), "rich": rich_span("ro-1", "at-1")}


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_json_is_what_the_model_dumps(span):
    assert encode_span(span) == encode_json_strictly(span.model_dump(exclude=APART))


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_record_is_what_validation_makes(span):
    data = encode_span(span)
    read = decode_span("ro-1", "at-1", 7, data)
    validated = Span.model_validate({"rollout_id": "ro-1", "attempt_id": "at-1", "sequence_id": 7, **load_json(data)})

    assert read == validated
    assert repr(read) == repr(validated)
    assert (read.model_fields_set, read.model_extra) == (validated.model_fields_set, validated.model_extra)
    assert read.status.model_extra == validated.status.model_extra
    assert pickle.loads(pickle.dumps(read)) == read  # noqa: S301 - made here


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": datetime(2026, 1, 1, tzinfo=timezone.utc)},
        {"extra": {"deep": [b"bytes"]}},
        {"extra": {1, 2}},
        {"status": TraceStatus(status_code="OK", extra=object())},
        {"events": [Event(name="event", extra=b"bytes")]},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_values_that_are_no_json_are_refused(fields):
    with pytest.raises(TypeError):
        encode_span(make_span("ro-1", "at-1", **fields))


def test_attribute_that_was_put_in_without_validation_is_refused():
    span = make_span("ro-1", "at-1")
    span.attributes["when"] = datetime(2026, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(TypeError), pytest.warns(UserWarning, match="serializer"):
        encode_span(span)


def test_names_that_one_span_gets_later_are_its_own():
    first, second = (decode_span("ro-1", "at-1", 1, encode_span(SPANS["plain"])) for _ in range(2))
    first.more = 1  # a field that the model does not know
    assert "more" in first.model_fields_set
    assert "more" not in second.model_fields_set
