from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from openai.types.responses import ResponseItem
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter
from sqlalchemy import Engine

from tutelage.runtime.errors import BadRequest, StoreError
from tutelage.runtime.gateway import stored_responses
from tutelage.runtime.gateway.stored_responses import StoredResponses, is_ours
from tutelage.runtime.store.schema import metadata
from tutelage.runtime.wires.responses_items import listed_items

Result = TypeVar("Result")


class Threads:
    """Remembers where the work ran."""

    def __init__(self) -> None:
        self.used: set[int] = set()

    async def __call__(self, function: Callable[[], Result], /) -> Result:
        def noted() -> Result:
            self.used.add(threading.get_ident())
            return function()

        return await asyncio.to_thread(noted)


@pytest.fixture
def store(engine: Engine, clock: Any) -> StoredResponses:
    return StoredResponses(engine, Threads(), clock=clock)


def response(id: str, text: str = "ok") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": f"msg_{id}", "role": "assistant", "content": content}
    return {"id": id, "object": "response", "output": [{**message, "status": "completed"}]}


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


async def put(store: StoredResponses, id: str, text: str, previous: str | None = None) -> None:
    items = listed_items({"input": [said(text)]}, id)
    await store.put("acme", response(id, f"re {text}"), items, previous_id=previous)


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


async def test_a_response_is_read_as_it_was_stored(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "Ünïcode and 😀")
    assert await store.get("acme", "resp_tut_1") == response("resp_tut_1", "re Ünïcode and 😀")
    assert await store.get("acme", "resp_tut_2") is None


async def test_the_database_is_used_in_the_thread_that_was_given(
    engine: Engine, clock: Any
) -> None:
    threads = Threads()
    store = StoredResponses(engine, threads, clock=clock)
    await put(store, "resp_tut_1", "hi")
    assert await store.get("acme", "resp_tut_1")
    assert threads.used
    assert threading.get_ident() not in threads.used


async def test_a_second_response_with_the_same_id_takes_the_place_of_the_first(
    store: StoredResponses,
) -> None:
    await put(store, "resp_tut_1", "a")
    await put(store, "resp_tut_1", "b")
    assert await store.get("acme", "resp_tut_1") == response("resp_tut_1", "re b")


async def test_another_tenant_sees_nothing(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "hi")
    assert await store.get("other", "resp_tut_1") is None
    assert await store.input_items("other", "resp_tut_1") is None
    assert not await store.delete("other", "resp_tut_1")
    with pytest.raises(BadRequest):
        await store.conversation("other", "resp_tut_1")
    await store.put("other", response("resp_tut_1", "theirs"), [])
    assert await store.get("acme", "resp_tut_1") == response("resp_tut_1", "re hi")


async def test_a_deleted_response_is_gone(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "hi")
    assert await store.delete("acme", "resp_tut_1")
    assert await store.get("acme", "resp_tut_1") is None
    assert not await store.delete("acme", "resp_tut_1")


async def test_input_items_come_in_pages_newest_first(store: StoredResponses) -> None:
    items = listed_items({"input": [said(str(number)) for number in range(5)]}, "resp_tut_1")
    await store.put("acme", response("resp_tut_1"), items)
    page = await store.input_items("acme", "resp_tut_1", limit=2)
    assert page is not None
    assert texts(page["data"]) == ["4", "3"]
    assert page["has_more"]
    assert (page["first_id"], page["last_id"]) == ("msg_in_tut_1_4", "msg_in_tut_1_3")
    for item in page["data"]:
        TypeAdapter(ResponseItem).validate_python(item)
    ResponseItemList.model_validate(page)
    rest = await store.input_items("acme", "resp_tut_1", after=page["last_id"], limit=3)
    assert rest is not None
    assert texts(rest["data"]) == ["2", "1", "0"]
    assert not rest["has_more"]


async def test_input_items_may_be_asked_for_oldest_first(store: StoredResponses) -> None:
    items = listed_items({"input": [said(str(number)) for number in range(3)]}, "resp_tut_1")
    await store.put("acme", response("resp_tut_1"), items)
    page = await store.input_items("acme", "resp_tut_1", order="asc", after="msg_in_tut_1_0")
    assert page is not None
    assert texts(page["data"]) == ["1", "2"]
    last = await store.input_items("acme", "resp_tut_1", order="asc", after="msg_in_tut_1_2")
    assert last == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "msg_9"}, "after"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    store: StoredResponses, fields: dict[str, Any], param: str
) -> None:
    await put(store, "resp_tut_1", "hi")
    with pytest.raises(BadRequest) as caught:
        await store.input_items("acme", "resp_tut_1", **fields)
    assert caught.value.param == param


async def test_a_conversation_is_the_whole_chain_in_order(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "a")
    await put(store, "resp_tut_2", "b", "resp_tut_1")
    await put(store, "resp_tut_3", "c", "resp_tut_2")
    await put(store, "resp_tut_4", "other", "resp_tut_2")
    items = await store.conversation("acme", "resp_tut_3")
    assert texts(items) == ["a", "re a", "b", "re b", "c", "re c"]


async def test_a_broken_chain_is_refused(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "a")
    await put(store, "resp_tut_2", "b", "resp_tut_1")
    await store.delete("acme", "resp_tut_1")
    with pytest.raises(BadRequest, match="resp_tut_1") as caught:
        await store.conversation("acme", "resp_tut_2")
    assert caught.value.param == "previous_response_id"
    assert caught.value.code == "previous_response_not_found"


async def test_a_chain_that_bites_its_tail_ends(store: StoredResponses) -> None:
    await put(store, "resp_tut_1", "a", "resp_tut_2")
    await put(store, "resp_tut_2", "b", "resp_tut_1")
    with pytest.raises(BadRequest):
        await store.conversation("acme", "resp_tut_2")


async def test_a_chain_has_a_longest_length(
    store: StoredResponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_responses, "MOST_LINKS", 1)
    await put(store, "resp_tut_1", "a")
    await put(store, "resp_tut_2", "b", "resp_tut_1")
    assert texts(await store.conversation("acme", "resp_tut_1")) == ["a", "re a"]
    with pytest.raises(BadRequest, match="more than 1 responses"):
        await store.conversation("acme", "resp_tut_2")


async def test_a_response_whose_time_is_over_is_gone(
    engine: Engine, store: StoredResponses, clock: Any
) -> None:
    await put(store, "resp_tut_1", "a")
    clock.now_s += stored_responses.LIFETIME_S - 1
    assert await store.get("acme", "resp_tut_1")
    clock.now_s += 1
    assert await store.get("acme", "resp_tut_1") is None
    assert not await store.delete("acme", "resp_tut_1")
    assert await store.prune() == 1
    assert await store.prune() == 0


async def test_storing_removes_what_is_over(store: StoredResponses, clock: Any) -> None:
    await put(store, "resp_tut_1", "a")
    clock.now_s += stored_responses.LIFETIME_S
    await put(store, "resp_tut_2", "b")
    assert await store.prune() == 0
    assert await store.get("acme", "resp_tut_2")


async def test_a_response_may_be_kept_for_good(engine: Engine, clock: Any) -> None:
    store = StoredResponses(engine, Threads(), clock=clock, lifetime_s=None)
    await put(store, "resp_tut_1", "a")
    clock.now_s += 1e9
    assert await store.prune() == 0
    assert await store.get("acme", "resp_tut_1")


@pytest.mark.parametrize("id", ["", "resp_tut_\0", "x" * 65, "resp_tut_é"])
async def test_an_id_that_cannot_be_ours_names_nothing(store: StoredResponses, id: str) -> None:
    assert await store.get("acme", id) is None
    assert not await store.delete("acme", id)


async def test_a_database_that_fails_is_an_error_of_the_store(
    engine: Engine, store: StoredResponses
) -> None:
    metadata.drop_all(engine)
    with pytest.raises(StoreError, match="cannot be read"):
        await store.get("acme", "resp_tut_1")
    with pytest.raises(StoreError, match="cannot be written"):
        await put(store, "resp_tut_1", "a")


def test_only_ids_with_our_prefix_are_ours() -> None:
    assert is_ours("resp_tut_1")
    assert not is_ours("resp_68ab")
