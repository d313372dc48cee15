"""Paths of the HTTP API: which operation they mean, and that what is written is read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_store.errors import InvalidRequestError
from lightning_store.http.routes import ROUTES, Routes, written
from lightning_store.operations import OPERATIONS

ROUTE_FINDER = Routes()


def found(method, path, *, empty_ids=False):
    match = ROUTE_FINDER.match(method, path, empty_ids=empty_ids)
    return None if match.route is None else (match.route.codec.operation.name, dict(match.arguments))


def test_every_operation_with_a_path_has_a_route_and_only_those():
    assert {route.codec.operation.name for route in ROUTES} == {row.name for row in OPERATIONS.values() if row.path}


def test_no_two_routes_are_the_same():
    places = [(route.method, route.path) for route in ROUTES]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@given(data=st.data())
def test_any_id_that_is_written_is_read_again(route, data):
    anything = (
        st.text()
        | st.text(st.characters())
        | st.sampled_from(["search", "latest", "..", ".", "", "a/b", "%2F", "\ud800"])
    )
    ids = {name: data.draw(anything) for name in route.codec.path_names}
    path = written(route.path, ids)
    assert path.isascii()
    assert found(route.method, path, empty_ids=True) == (route.codec.operation.name, ids)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/resources/latest", ("update_resources", {"resources_id": "latest"})),
        ("GET", "/resources/latest", ("get_latest_resources", {})),
        ("GET", "/resources/%6Catest", ("get_resources_by_id", {"resources_id": "latest"})),
        ("POST", "/rollouts/search", ("query_rollouts", {})),
        ("GET", "/rollouts/search", ("get_rollout_by_id", {"rollout_id": "search"})),
        ("POST", "/rollouts/a%2Fb/attempts/latest", ("update_attempt", {"rollout_id": "a/b", "attempt_id": "latest"})),
        ("GET", "/rollouts/", None),
        ("PUT", "/rollouts", None),
    ],
)
def test_words_win_where_the_contract_says_so(method, path, expected):
    assert found(method, path) == expected


@pytest.mark.parametrize("id", [5, None, b"at-1"])
def test_id_that_is_no_text_is_refused_by_its_name(id):
    with pytest.raises(InvalidRequestError, match="attempt_id: expected text"):
        written("/rollouts/{rollout_id}/attempts/{attempt_id}", {"rollout_id": "ro-1", "attempt_id": id})


def test_methods_that_are_allowed_are_told():
    assert ROUTE_FINDER.match("PUT", "/rollouts", empty_ids=False).allowed == {"GET", "POST"}
    assert ROUTE_FINDER.match("PUT", "/nothing", empty_ids=False).allowed == set()
