"""Resources: sections 1.5 and 3.6."""

import re

import pytest
from pydantic import ValidationError

from lightning_store.errors import InvalidRequestError
from lightning_store.records import LLM, PromptTemplate, ProxyLLM, ResourcesUpdate
from tests.support.factories import some_resources

EVERY_KIND = {
    "model": LLM(
        endpoint="http://a", model="m", api_key="secret", sampling_parameters={"temperature": 0.5, "stop": []}
    ),
    "proxied": ProxyLLM(endpoint="http://b", model="n"),
    "prompt": PromptTemplate(template="Solve {{ task }}", engine="jinja"),
}


async def test_added_resources_are_version_one_of_a_new_id(store, clock):
    added = await store.add_resources(EVERY_KIND)

    assert type(added) is ResourcesUpdate
    assert re.fullmatch(r"rs-[0-9a-f]{12}", added.resources_id)
    assert (added.version, added.create_time, added.update_time) == (1, clock.now(), clock.now())
    assert added.resources == EVERY_KIND
    assert await store.get_resources_by_id(added.resources_id) == added


async def test_each_kind_comes_back_as_its_class(store):
    added = await store.add_resources(EVERY_KIND)

    stored = await store.get_resources_by_id(added.resources_id)

    assert {name: type(value) for name, value in stored.resources.items()} == {
        "model": LLM,
        "proxied": ProxyLLM,
        "prompt": PromptTemplate,
    }
    assert list(stored.resources) == list(EVERY_KIND)


async def test_update_replaces_the_whole_mapping_under_the_next_version(store, clock):
    added = await store.add_resources(EVERY_KIND)
    clock.advance(2)
    replacement = some_resources("large")

    second = await store.update_resources(added.resources_id, replacement)
    third = await store.update_resources(added.resources_id, {})

    assert (second.version, third.version) == (2, 3)
    assert (second.resources, third.resources) == (replacement, {})
    assert (second.create_time, second.update_time) == (added.create_time, clock.now())
    assert await store.get_resources_by_id(added.resources_id) == third
    assert (await store.query_resources()).total == 1


async def test_update_of_an_unknown_id_creates_version_one(store, clock):
    created = await store.update_resources("my resources: v1/ä", some_resources())

    assert (created.resources_id, created.version) == ("my resources: v1/ä", 1)
    assert (created.create_time, created.update_time) == (clock.now(), clock.now())
    assert await store.get_resources_by_id("my resources: v1/ä") == created


async def test_latest_is_what_was_added_or_updated_last(store):
    assert await store.get_latest_resources() is None
    first = await store.add_resources(some_resources())
    assert await store.get_latest_resources() == first
    second = await store.add_resources(some_resources())
    assert await store.get_latest_resources() == second
    first = await store.update_resources(first.resources_id, some_resources("large"))
    assert await store.get_latest_resources() == first
    created = await store.update_resources("new", some_resources())
    assert await store.get_latest_resources() == created


async def test_unknown_id_is_none(store):
    await store.add_resources(some_resources())
    assert await store.get_resources_by_id("rs-unknown") is None


async def test_query_lists_in_order_of_creation(store):
    ids = [(await store.add_resources(some_resources())).resources_id for _ in range(3)]
    ids.append((await store.update_resources("a-first-by-name", {})).resources_id)
    await store.update_resources(ids[0], some_resources("large"))

    page = await store.query_resources()

    assert [item.resources_id for item in page] == ids
    assert [item.version for item in page] == [2, 1, 1, 1]


async def test_query_filters_mean_both(store):
    for name in ("alpha-1", "alpha-2", "beta-1"):
        await store.update_resources(name, {})

    async def found(**filters):
        return [item.resources_id for item in await store.query_resources(**filters)]

    assert await found(resources_id="alpha-1") == ["alpha-1"]
    assert await found(resources_id_contains="alpha") == ["alpha-1", "alpha-2"]
    assert await found(resources_id_contains="-1") == ["alpha-1", "beta-1"]
    assert await found(resources_id_contains="ALPHA") == []
    assert await found(resources_id_contains="") == ["alpha-1", "alpha-2", "beta-1"]
    assert await found(resources_id="alpha-1", resources_id_contains="beta") == []
    assert await found(resources_id="beta-1", resources_id_contains="beta") == ["beta-1"]
    assert await found(resources_id="") == []


async def test_callers_changes_and_changed_answers_do_not_show(store):
    resources = {"main": LLM(endpoint="e", model="m", sampling_parameters={"stop": ["a"]})}
    added = await store.add_resources(resources)
    resources["main"].sampling_parameters["stop"].append("b")
    resources["other"] = some_resources()["main"]
    for answer in (added, await store.get_resources_by_id(added.resources_id), await store.get_latest_resources()):
        answer.resources["main"].sampling_parameters["stop"].append("c")
        answer.resources["main"].model = "changed"
        answer.version = 9

    stored = await store.get_resources_by_id(added.resources_id)

    assert stored.version == 1
    assert stored.resources == {"main": LLM(endpoint="e", model="m", sampling_parameters={"stop": ["a"]})}


@pytest.mark.parametrize("bad", [None, [], "text", 1])
async def test_what_is_no_mapping_is_refused(store, bad):
    for call in (store.add_resources(bad), store.update_resources("id", bad)):
        with pytest.raises(InvalidRequestError, match="resources"):
            await call
    assert (await store.query_resources()).total == 0


async def test_resource_of_an_unknown_kind_is_refused(store):
    with pytest.raises(ValidationError, match="resource_type"):
        await store.add_resources({"main": {"resource_type": "spaceship"}})
    with pytest.raises(ValidationError):
        await store.add_resources({"main": {"resource_type": "prompt_template", "template": "x", "engine": "mako"}})
    assert await store.get_latest_resources() is None
