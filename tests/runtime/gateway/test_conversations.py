from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.conversations import Conversations, read_prefix
from tutelage.runtime.types import ChatRequest, Message


def request(*messages: dict[str, Any]) -> ChatRequest:
    return ChatRequest.model_validate({"model": "agent", "messages": list(messages)})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(arguments: str, id: str = "call_1", **more: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": function}],
        **more,
    }


def message(fields: dict[str, Any]) -> Message:
    return Message.model_validate(fields)


async def answered(
    conversations: Conversations, episode_id: str, *messages: dict[str, Any], tenant: str = "acme"
) -> None:
    *asked, answer = messages
    await conversations.remember(tenant, request(*asked), message(answer), episode_id)


async def test_a_request_that_repeats_an_answer_goes_on_in_its_episode() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"))

    assert await known.find("acme", request(user("hi"), says("hello"), user("more"))) == "e1"


async def test_a_first_request_begins_an_episode() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"))

    assert await known.find("acme", request(user("hi"))) is None
    assert await known.find("acme", request()) is None


async def test_a_tool_loop_stays_in_its_episode_over_many_steps() -> None:
    known = Conversations()
    transcript = [user("Task: tidy.")]
    for step in range(20):
        answer = calls("{}", id=f"call_{step}")
        found = await known.find("acme", request(*transcript))
        assert found == (None if step == 0 else "e1")
        await known.remember("acme", request(*transcript), message(answer), "e1")
        transcript += [
            answer,
            {"role": "tool", "tool_call_id": f"call_{step}", "content": "nothing new"},
        ]


REFORMATTED = [
    (says("go"), {"role": "assistant", "content": [{"type": "text", "text": "go"}]}),
    (says("go"), {**says("go\n"), "refusal": None, "annotations": [], "audio": None}),
    (says("go"), {**says("go"), "tool_calls": None, "reasoning_content": "because"}),
    (says("go"), {**says("go"), "tool_calls": [], "name": "agent"}),
    (
        says("go"),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "go", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ),
    (calls('{"a":1,"b":[2]}'), calls('{ "b": [2], "a": 1 }')),
    (calls(""), calls("{}")),
    (calls("{}"), {**calls("{}"), "content": ""}),
    (calls("{}"), {name: value for name, value in calls("{}").items() if name != "content"}),
    (calls("{}"), calls("{}", index=0)),
]


@pytest.mark.parametrize(("answer", "sent"), REFORMATTED)
async def test_what_clients_change_in_passing_does_not_break_the_chain(
    answer: dict[str, Any], sent: dict[str, Any]
) -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), answer)
    opening = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}]}

    assert await known.find("acme", request(opening, sent, user("next"))) == "e1"


async def test_instructions_that_change_between_steps_do_not_break_the_chain() -> None:
    known = Conversations()
    clock = {"role": "system", "content": "It is 10:00."}
    await answered(known, "e1", clock, user("hi"), says("hello"))
    later = {"role": "developer", "content": "It is 10:01."}

    assert await known.find("acme", request(later, user("hi"), says("hello"), user("x"))) == "e1"


DIFFERENT = [
    (says("go"), says("stay")),
    (says("go"), calls("{}")),
    (calls('{"a":1}'), calls('{"a":2}')),
    (calls('{"a":'), calls('{"a":1}')),
    (calls("{}", id="call_1"), calls("{}", id="call_2")),
    (calls("{}"), {**calls("{}"), "content": "I look."}),
]


@pytest.mark.parametrize(("answer", "sent"), DIFFERENT)
async def test_another_answer_is_another_conversation(
    answer: dict[str, Any], sent: dict[str, Any]
) -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), answer)

    assert await known.find("acme", request(user("hi"), sent, user("next"))) is None


OPENINGS: list[dict[str, Any]] = [
    {"role": "user", "content": "a b"},
    {"role": "user", "content": "a", "name": "b"},
    {"role": "tool", "content": "a", "tool_call_id": "b"},
    {"role": "tool", "content": "a", "tool_call_id": "c"},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "c"}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "b"}}]},
    {"role": "user", "content": None},
    {"role": "function", "name": "f", "content": "a"},
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
    {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "free"}}],
    },
    {"role": "assistant", "tool_calls": [{"id": "1"}]},
    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]},
]


def test_messages_that_say_different_things_have_different_hashes() -> None:
    assert len({read_prefix([message(one)]).asked for one in OPENINGS}) == len(OPENINGS)


def test_arguments_that_json_writers_refuse_are_hashed_all_the_same() -> None:
    nested = "[" * 400 + "]" * 400
    deep: Any = "leaf"
    for _ in range(5000):
        deep = [deep]
    hashes = {
        read_prefix([message(calls(nested))]).asked,
        read_prefix([message(calls('{"n": 1' + "0" * 30 + "}"))]).asked,
        read_prefix([message(calls("{}", id="\ud800"))]).asked,
        read_prefix([Message.model_construct(role="user", content=[{"type": "x", "y": deep}])]),
        read_prefix([Message.model_construct(role="user", content=[{"type": "x", "y": 1 << 70}])]),
    }

    assert len(hashes) == 5


async def test_alike_conversations_each_go_on_in_an_episode_of_their_own() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"))
    await answered(known, "e2", user("hi"), says("hello"))

    first = await known.find("acme", request(user("hi"), says("hello"), user("one")))
    second = await known.find("acme", request(user("hi"), says("hello"), user("two")))

    assert {first, second} == {"e1", "e2"}


async def test_a_repeated_request_stays_in_the_episode_it_had() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"))
    again = request(user("hi"), says("hello"), user("one"))

    assert await known.find("acme", again) == await known.find("acme", again) == "e1"


async def test_a_branch_of_a_conversation_that_went_on_is_a_new_one() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"))

    assert await known.find("acme", request(user("hi"), says("hello"), user("one"))) == "e1"
    assert await known.find("acme", request(user("hi"), says("hello"), user("two"))) is None


async def test_an_answer_that_is_given_again_is_no_second_episode() -> None:
    known = Conversations()
    for _ in range(2):
        await answered(known, "e1", user("hi"), says("hello"))
    assert await known.find("acme", request(user("hi"), says("hello"), user("one"))) == "e1"
    await answered(known, "e1", user("hi"), says("hello"))

    assert await known.find("acme", request(user("hi"), says("hello"), user("two"))) is None


async def test_tenants_never_find_each_others_episodes() -> None:
    known = Conversations()
    await answered(known, "e1", user("hi"), says("hello"), tenant="acme")

    assert await known.find("other", request(user("hi"), says("hello"), user("x"))) is None


async def test_the_least_recent_transcripts_are_forgotten() -> None:
    known = Conversations(capacity=2)
    for number in range(3):
        await answered(known, f"e{number}", user(str(number)), says("hello"))

    assert len(known) == 2
    assert await known.find("acme", request(user("0"), says("hello"), user("x"))) is None
    assert await known.find("acme", request(user("2"), says("hello"), user("x"))) == "e2"


async def test_alike_answers_that_nobody_goes_on_with_take_bounded_memory() -> None:
    known = Conversations()
    for number in range(100):
        await answered(known, f"e{number}", user("hi"), says("hello"))

    found = [
        await known.find("acme", request(user("hi"), says("hello"), user(str(number))))
        for number in range(100)
    ]

    assert [one for one in found if one] == [f"e{number}" for number in range(99, 83, -1)]


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity = 0"):
        Conversations(capacity=0)


async def test_a_prefix_that_is_known_already_is_not_read_again() -> None:
    known = Conversations()
    opening = request(user("hi"))
    await known.remember("acme", read_prefix(opening.messages), message(says("hello")), "e1")
    following = request(user("hi"), says("hello"), user("x"))

    assert await known.find("acme", read_prefix(following.messages)) == "e1"


words = st.sampled_from(["a", "b", "ab", ""])
replies = st.one_of(
    st.builds(says, words),
    st.builds(
        lambda arguments, id: calls(json.dumps(arguments), id=id),
        st.dictionaries(words, words, max_size=2),
        st.sampled_from(["1", "2"]),
    ),
)
turns = st.lists(st.tuples(st.builds(user, words), replies), min_size=1, max_size=5)


@given(st.lists(turns, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_each_episode_is_one_conversation_whatever_runs_beside_it(
    scripts: list[list[tuple[dict[str, Any], dict[str, Any]]]], random: Any
) -> None:
    known = Conversations()
    transcripts: list[list[dict[str, Any]]] = [[] for _ in scripts]
    visits: dict[str, list[list[dict[str, Any]]]] = {}

    async def step(number: int) -> None:
        transcript = transcripts[number]
        asked, reply = scripts[number][len(transcript) // 2]
        sent = request(*transcript, asked)
        found = await known.find("acme", sent)
        assert (found is None) == (not transcript)
        episode = found or f"e{len(visits)}"
        await known.remember("acme", sent, message(reply), episode)
        transcripts[number] = [*transcript, asked, reply]
        visits.setdefault(episode, []).append(transcripts[number])

    async def run() -> None:
        waiting = [number for number, script in enumerate(scripts) for _ in script]
        random.shuffle(waiting)
        for number in waiting:
            await step(number)

    asyncio.run(run())
    for seen in visits.values():
        assert [len(transcript) for transcript in seen] == [2 * n + 2 for n in range(len(seen))]
        assert all(after[: len(before)] == before for before, after in pairwise(seen))


class Shared:
    """A store in memory that can fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], str] = {}
        self.fails = False

    async def load(self, tenant: str, digest: str) -> str | None:
        if self.fails:
            raise StoreError("the database is gone")
        return self.rows.get((tenant, digest))

    async def save(self, tenant: str, digest: str, episode_id: str) -> None:
        if self.fails:
            raise StoreError("the database is gone")
        self.rows[tenant, digest] = episode_id


async def test_another_worker_finds_what_was_saved() -> None:
    store = Shared()
    here, there = Conversations(store=store), Conversations(store=store)
    await answered(here, "e1", user("hi"), says("hello"))
    following = request(user("hi"), says("hello"), user("x"))

    assert await there.find("acme", following) == "e1"
    assert await there.find("other", following) is None
    assert all(len(digest) == 64 for _, digest in store.rows)
    branch = request(user("hi"), says("hello"), user("y"))
    assert await there.find("acme", branch) is None


async def test_a_store_that_fails_is_as_good_as_none(caplog: pytest.LogCaptureFixture) -> None:
    store = Shared()
    store.fails = True
    known = Conversations(store=store)
    await answered(known, "e1", user("secret-words"), says("hello"))

    assert await known.find("acme", request(user("x"), says("y"), user("z"))) is None
    following = request(user("secret-words"), says("hello"), user("x"))
    assert await known.find("acme", following) == "e1"
    assert "the database is gone" in caplog.text
    assert "secret-words" not in caplog.text
