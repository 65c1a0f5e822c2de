"""``tutelage.wrap`` from end to end: a real client, two endpoints, a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

import tutelage
from tutelage.assembly import open_assembly
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError, PriceUnknown, StoreError
from tutelage.runtime.types import EpisodeRecord, Trace

MESSAGES: Any = [
    {"role": "system", "content": "Act."},
    {"role": "user", "content": "Task: tidy.\nA room with a desk 1."},
]
TOOLS: Any = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": '{"to": "desk"}'}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def student() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to desk 1") as made:
        yield made


@pytest.fixture
def teacher() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("open desk 1") as made:
        yield made


@pytest.fixture
def config(student: ScriptedEndpoint) -> Config:
    given = {
        "retrieval.embedder": "hash",
        "student.base_url": student.base_url,
        "student.model": "small",
        "student.priced_as": "gpt-4.1-mini",
        "student.attempts": 1,
    }
    return load_config(environment={}, overrides=given)


@pytest.fixture
def plain(teacher: ScriptedEndpoint) -> Iterator[openai.OpenAI]:
    # Without verification no certificates are loaded, which takes longer than all the rest.
    with openai.OpenAI(
        base_url=teacher.base_url,
        api_key="sk-own",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=False),
    ) as client:
        yield client


@pytest.fixture
async def plain_async(teacher: ScriptedEndpoint) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=teacher.base_url,
        api_key="sk-own",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(verify=False),
    ) as client:
        yield client


@pytest.fixture
def client(plain: openai.OpenAI, config: Config) -> Iterator[Any]:
    wrapped = tutelage.wrap(plain, config)
    yield wrapped
    wrapped.close()


def ask(client: Any, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4.1", "messages": MESSAGES, **fields})


def stored(config: Config) -> tuple[list[Trace], list[EpisodeRecord]]:
    """What the database holds, oldest first."""

    async def read() -> tuple[list[Trace], list[EpisodeRecord]]:
        async with open_assembly(config) as assembly:
            traces = await assembly.traces.traces("default", newest_first=False)
            return traces, await assembly.traces.episodes("default")

    return asyncio.run(read())


def test_nothing_is_opened_before_the_first_request(
    client: Any, plain: openai.OpenAI, tmp_path: Path
) -> None:
    assert isinstance(client, openai.OpenAI)
    assert not (tmp_path / "tutelage.sqlite").exists()


def test_a_student_that_agrees_with_itself_answers(
    client: Any, student: ScriptedEndpoint, teacher: ScriptedEndpoint, config: Config
) -> None:
    answer = ask(client)
    client.close()

    (trace,), _ = stored(config)
    assert answer.choices[0].message.content == "go to desk 1"
    assert answer.model == "gpt-4.1"
    assert answer.tutelage == {"served": "student", "reason": "agreed", "trace_id": trace.id}
    assert student.bodies[0]["n"] == 3
    assert student.bodies[0]["model"] == "small"
    assert teacher.bodies == []
    assert [sample.text for sample in trace.samples] == ["go to desk 1"] * 3
    assert trace.cost_usd == {"student": pytest.approx((100 * 0.4 + 3 * 1.6) / 1e6)}
    assert trace.baseline_cost_usd is not None


def test_a_student_that_disagrees_leaves_the_step_to_the_clients_own_endpoint(
    client: Any, student: ScriptedEndpoint, teacher: ScriptedEndpoint, config: Config
) -> None:
    student.say = lambda body, index: f"go to desk {index}"

    answer = ask(client, temperature=0.2, extra_headers={"X-Own": "1"})
    client.close()

    (trace,), _ = stored(config)
    assert answer.choices[0].message.content == "open desk 1"
    assert answer.tutelage["reason"] == "disagreed"
    assert teacher.bodies == [{"model": "gpt-4.1", "messages": MESSAGES, "temperature": 0.2}]
    assert teacher.headers[0]["authorization"] == "Bearer sk-own"
    assert teacher.headers[0]["x-own"] == "1"
    assert trace.usage["teacher"].prompt_tokens == 100
    assert trace.cost_usd["teacher"] == pytest.approx((100 * 2 + 3 * 8) / 1e6)


def test_both_answers_can_be_streamed(
    client: Any, student: ScriptedEndpoint, teacher: ScriptedEndpoint, config: Config
) -> None:
    def text(chunks: Any) -> str:
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    agreed = text(ask(client, stream=True))
    student.say = ""
    deferred = text(ask(client, stream=True))
    client.close()

    traces, _ = stored(config)
    assert (agreed, deferred) == ("go to desk 1", "open desk 1")
    assert teacher.bodies[0]["stream"] is True
    assert [(t.decision.served, t.decision.reason) for t in traces] == [
        ("student", "agreed"),
        ("teacher", "unusable"),
    ]
    assert [trace.answer for trace in traces] == [agreed, deferred]


def test_tool_calls_are_compared_and_returned(
    client: Any, student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    student.say = {"content": None, "tool_calls": [CALL]}
    agreed = ask(client, tools=TOOLS)
    other = {**CALL, "function": {"name": "go", "arguments": '{"to": "bed"}'}}
    student.say = lambda body, index: {"content": None, "tool_calls": [CALL if index else other]}
    deferred = ask(client, tools=TOOLS)

    assert agreed.choices[0].message.tool_calls[0].function.arguments == '{"to": "desk"}'
    assert agreed.tutelage["served"] == "student"
    assert student.bodies[0]["tools"] == TOOLS
    assert deferred.tutelage["served"] == "teacher"
    assert teacher.bodies[0]["tools"] == TOOLS


def test_an_episode_and_its_outcome_are_stored(client: Any, config: Config) -> None:
    with client.episode(goal="tidy", task_id="room-1") as episode:
        first = ask(client)
        said = {"role": "assistant", "content": first.choices[0].message.content}
        ask(client, messages=[*MESSAGES, said, {"role": "user", "content": "At desk 1."}])
        episode.feedback(success=True, reward=0.5)
    client.close()

    traces, (record,) = stored(config)
    assert [(t.episode_id, t.step_index, t.goal) for t in traces] == [
        (episode.id, 0, "tidy"),
        (episode.id, 1, "tidy"),
    ]
    assert (record.id, record.goal, record.task_id) == (episode.id, "tidy", "room-1")
    assert (record.success, record.reward) == (True, 0.5)


def test_what_a_wrapped_client_asks_belongs_to_the_configured_tenant(
    plain: openai.OpenAI, config: Config
) -> None:
    acme = Config.model_validate({**config.model_dump(), "tenant": "acme"})
    client: Any = tutelage.wrap(plain, acme)
    ask(client)
    with client.episode(goal="tidy") as episode:
        ask(client)
    with client.episode(tenant="other"):
        ask(client)
    client.close()

    async def read(tenant: str) -> list[str]:
        async with open_assembly(acme) as assembly:
            traces = await assembly.traces.traces(tenant, newest_first=False)
        return [trace.episode_id for trace in traces]

    acmes = asyncio.run(read("acme"))
    assert len(acmes) == 2
    assert acmes[1] == episode.id
    assert len(asyncio.run(read("other"))) == 1
    assert asyncio.run(read("default")) == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_a_failing_teacher_raises_the_clients_own_exceptions(
    client: Any,
    student: ScriptedEndpoint,
    teacher: ScriptedEndpoint,
    status: int,
    kind: type[openai.APIStatusError],
    stream: bool,
) -> None:
    student.say, teacher.status = "", status

    with pytest.raises(kind) as caught:
        ask(client, stream=stream)

    assert caught.value.status_code == status
    assert "out of order" in caught.value.message


def test_a_dead_student_is_not_noticed_by_the_caller(
    client: Any, student: ScriptedEndpoint, config: Config
) -> None:
    student.status = 500

    answer = ask(client)
    client.close()

    (trace,), _ = stored(config)
    assert answer.choices[0].message.content == "open desk 1"
    assert answer.tutelage["reason"] == "student_failed"
    assert "answered 500: out of order" in (trace.error or "")


def test_a_closed_client_refuses_and_leaves_nothing_open(client: Any) -> None:
    ask(client)
    client.close()
    client.close()

    with pytest.raises(tutelage.TutelageError, match="the runtime is closed: make a new one"):
        ask(client)


def test_a_part_that_cannot_be_opened_is_said_and_tried_again(
    client: Any, tmp_path: Path, config: Config
) -> None:
    (tmp_path / "tutelage.sqlite").write_text("this is a text and no database " * 40)
    for _ in range(2):
        with pytest.raises(StoreError, match="file is not a database"):
            ask(client)
    (tmp_path / "tutelage.sqlite").unlink()

    answer = ask(client)
    client.close()

    assert answer.tutelage["served"] == "student"
    assert len(stored(config)[0]) == 1


def test_what_was_opened_before_a_part_failed_is_closed(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.assembly import Assembly

    seen: list[Assembly] = []
    student = Assembly.student

    async def failing(self: Assembly) -> Any:
        seen.append(self)
        raise ConfigError("no student today")

    monkeypatch.setattr(Assembly, "student", failing)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no student today"):
            ask(client)
    monkeypatch.setattr(Assembly, "student", student)

    assert ask(client).tutelage["served"] == "student"
    assert len(seen) == 2
    assert all(not one.engine.pool.checkedin() for one in seen)  # type: ignore[attr-defined]


async def test_an_async_client_is_served_the_same_way(
    plain_async: openai.AsyncOpenAI,
    student: ScriptedEndpoint,
    teacher: ScriptedEndpoint,
    config: Config,
) -> None:
    client: Any = tutelage.wrap(plain_async, config)

    async with client.episode(goal="tidy") as episode:
        agreed = await ask(client)
        student.say = ""
        deferred = await ask(client)
        pieces = [chunk async for chunk in await ask(client, stream=True)]
        await episode.feedback(success=False)
    teacher.status = 429
    with pytest.raises(openai.RateLimitError):
        await ask(client)
    await client.close()

    traces, (record,) = await asyncio.to_thread(stored, config)
    assert agreed.tutelage["served"] == "student"
    assert deferred.choices[0].message.content == "open desk 1"
    text = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
    assert text == "open desk 1"
    assert [t.decision.reason for t in traces if t.episode_id == episode.id] == [
        "agreed",
        "unusable",
        "unusable",
    ]
    assert record.success is False


async def test_requests_that_come_together_open_the_parts_once(
    plain_async: openai.AsyncOpenAI, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage import assembly

    opened = 0
    real = assembly.open_assembly

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return real(*arguments, **options)

    monkeypatch.setattr(assembly, "open_assembly", counting)
    client: Any = tutelage.wrap(plain_async, config)

    answers = await asyncio.gather(*(ask(client) for _ in range(8)))
    await client.close()

    assert {answer.tutelage["served"] for answer in answers} == {"student"}
    assert opened == 1


def test_the_configuration_may_be_a_file_or_the_one_here(
    plain: openai.OpenAI, student: ScriptedEndpoint, tmp_path: Path
) -> None:
    text = (
        f"[student]\nbase_url = '{student.base_url}'\nmodel = 'small'\n"
        "priced_as = 'gpt-4.1-mini'\n[retrieval]\nembedder = 'hash'\n"
    )
    (tmp_path / "own.toml").write_text(text)
    (tmp_path / "tutelage.toml").write_text(text)

    for given in ((), ("own.toml",), (tmp_path / "own.toml",)):
        wrapped: Any = tutelage.wrap(plain, *given)
        assert ask(wrapped).tutelage["served"] == "student"
        wrapped.tutelage.close()


def test_a_teacher_that_is_not_named_is_priced_by_the_model_asked_for(client: Any) -> None:
    with pytest.raises(PriceUnknown, match="'my-own-model'"):
        ask(client, model="my-own-model")


def test_what_cannot_be_wrapped_is_refused(plain: openai.OpenAI, config: Config) -> None:
    anything: Any = object()
    with pytest.raises(ConfigError, match=r"give an openai.OpenAI or openai.AsyncOpenAI object"):
        tutelage.wrap(anything, config)
    with pytest.raises(ConfigError, match="does not exist"):
        tutelage.wrap(plain, "none.toml")
    values = config.model_dump()
    unpriced = Config.model_validate({**values, "student": {**values["student"], "priced_as": "x"}})
    with pytest.raises(PriceUnknown, match="student"):
        tutelage.wrap(plain, unpriced)
