from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.errors import BadResponse, ConfigError, ContextTooLong, Refused
from tutelage.runtime.models.local import LocalModel
from tutelage.runtime.types import ChatRequest, Completion, Message

pytest.importorskip("torch")
pytest.importorskip("transformers")

LONGEST = 160


@pytest.fixture
def tiny(tiny_llama: Path) -> Path:
    return tiny_llama


@pytest.fixture
async def model(tiny: Path) -> AsyncIterator[LocalModel]:
    async with tiny_model(tiny) as made:
        yield made


def tiny_model(tiny: Path, **settings: Any) -> LocalModel:
    return LocalModel(tiny, dtype="float32", threads=1, **{"seed": 1, **settings})


def ask(text: str, **fields: Any) -> ChatRequest:
    fields = {"max_tokens": 20, **fields}
    return ChatRequest(model="student", messages=[Message(role="user", content=text)], **fields)


def texts(completion: Completion) -> list[str]:
    return [choice.message.text for choice in completion.choices]


def logprobs(completion: Completion) -> list[float]:
    content = completion.choices[0].logprobs
    assert content is not None
    return [entry["logprob"] for entry in content["content"]]


async def test_greedy_is_the_same_with_and_without_the_prefix_cache(tiny: Path) -> None:
    request = ask("go to desk 1", logprobs=True)
    async with tiny_model(tiny, cached_prompts=0) as fresh, tiny_model(tiny) as cached:
        expected = await fresh.complete(request)
        again = await fresh.complete(request)
        await cached.complete(ask("go to desk 2"))
        reused = await cached.complete(request)
    assert again.usage.cache_read_tokens == 0
    assert reused.usage.cache_read_tokens > 10
    assert texts(reused) == texts(again) == texts(expected)
    assert logprobs(reused) == pytest.approx(logprobs(expected), abs=1e-4)


async def test_the_decoding_is_that_of_transformers(tiny: Path, model: LocalModel) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    reference = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    prompt = tokenizer("<s>u:go</s><s>a:", return_tensors="pt", return_token_type_ids=False)
    answer = reference.generate(**prompt, max_new_tokens=20, do_sample=False, pad_token_id=1)
    expected = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    completion = await model.complete(ask("go"))
    assert completion.text == expected
    assert len(expected) > 1


async def test_a_prompt_longer_than_a_prefill_chunk_is_read_in_pieces(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("take apple 1 from desk 1", logprobs=True)
    async with tiny_model(tiny, cached_prompts=0) as model:
        whole = await model.complete(request)
        monkeypatch.setattr("tutelage.runtime.models.generation.PREFILL_CHUNK", 7)
        pieces = await model.complete(request)
    assert texts(pieces) == texts(whole)
    assert logprobs(pieces) == pytest.approx(logprobs(whole), abs=1e-4)


async def test_three_greedy_samples_are_equal_and_all_counted(model: LocalModel) -> None:
    one = await model.complete(ask("go"))
    three = await model.complete(ask("go"), n=3)
    assert texts(three) == texts(one) * 3
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.output_tokens == 3 * one.usage.output_tokens
    assert three.usage.prompt_tokens == one.usage.prompt_tokens == 9
    assert three.usage.cache_read_tokens == three.usage.prompt_tokens - 1
    assert three.model == "student"


async def test_warm_samples_differ_and_a_seed_repeats_them(model: LocalModel) -> None:
    request = ask("go", temperature=1.0, seed=5, logprobs=True, top_logprobs=3)
    first = await model.complete(request, n=4)
    second = await model.complete(request, n=4)
    other = await model.complete(ask("go", temperature=1.0, seed=6), n=4)
    assert texts(first) == texts(second)
    assert len(set(texts(first))) > 1
    assert texts(first) != texts(other)


async def test_each_row_of_a_batch_is_what_its_own_tokens_lead_to(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    async with tiny_model(tiny) as model:
        completion = await model.complete(
            ask("go", temperature=1.5, seed=2, logprobs=True, max_tokens=12), n=3
        )
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    reference = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    prompt = tokenizer("<s>u:go</s><s>a:")["input_ids"]
    for choice in completion.choices:
        assert choice.logprobs is not None
        tokens = tokenizer.convert_tokens_to_ids(
            [entry["token"] for entry in choice.logprobs["content"]]
        )
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[torch.arange(len(tokens)), tokens]
        given = [entry["logprob"] for entry in choice.logprobs["content"]]
        assert given == pytest.approx(expected.tolist(), abs=1e-3)


async def test_the_models_seed_holds_for_requests_without_one(tiny: Path) -> None:
    runs = []
    for seed in (11, 11, 12):
        async with tiny_model(tiny, seed=seed) as model:
            runs.append(texts(await model.complete(ask("go", temperature=1.0), n=2)))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    async with tiny_model(tiny, seed=None) as model:
        assert (await model.complete(ask("go", temperature=1.0))).usage.output_tokens > 0


async def test_a_nucleus_of_almost_nothing_is_greedy(model: LocalModel) -> None:
    greedy = await model.complete(ask("look at desk 1"))
    nucleus = await model.complete(ask("look at desk 1", temperature=1.0, top_p=1e-6), n=2)
    assert texts(nucleus) == texts(greedy) * 2


def test_the_nucleus_holds_the_fewest_tokens_that_fill_it() -> None:
    import torch

    from tutelage.runtime.models.generation import Sampling, choose_tokens

    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log().expand(2000, -1)
    random = torch.Generator().manual_seed(0)
    chosen = choose_tokens(logits, Sampling(temperature=1.0, top_p=0.7), random)
    assert set(chosen.tolist()) == {1, 2}
    assert (chosen == 1).float().mean().item() == pytest.approx(0.5 / 0.8, abs=0.05)
    everything = choose_tokens(logits, Sampling(temperature=1.0), random)
    assert set(everything.tolist()) == {0, 1, 2, 3}


async def test_a_stop_string_ends_the_text_before_it(model: LocalModel) -> None:
    whole = (await model.complete(ask("take apple 1"))).text
    assert len(whole) > 6
    cut = await model.complete(ask("take apple 1", stop=["never", whole[3:5]]))
    assert cut.text == whole[: whole.index(whole[3:5])]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.output_tokens == whole.index(whole[3:5]) + 2
    single = await model.complete(ask("take apple 1", stop=whole[2]))
    assert single.text == whole[: whole.index(whole[2])]


async def test_the_token_limit_ends_the_text(model: LocalModel) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        completion = await model.complete(ask("take apple 1", **{field: 3}))
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage.output_tokens == 3


async def test_the_window_ends_a_text_that_no_limit_ends(model: LocalModel) -> None:
    request = ask("x" * 120, max_tokens=None, temperature=1.5)
    for seed in itertools.count():
        completion = await model.complete(request.model_copy(update={"seed": seed}))
        used = completion.usage.prompt_tokens + completion.usage.output_tokens
        if completion.choices[0].finish_reason == "length":
            assert used == LONGEST
            return
        assert used < LONGEST


async def test_log_probabilities_name_the_chosen_token_and_its_rivals(model: LocalModel) -> None:
    completion = await model.complete(ask("go", logprobs=True, top_logprobs=2))
    content = (completion.choices[0].logprobs or {})["content"]
    assert len(content) == completion.usage.output_tokens
    for entry in content:
        best, second = entry["top_logprobs"]
        assert best["token"] == entry["token"]
        assert best["bytes"] == list(entry["token"].encode())
        assert 0 >= best["logprob"] >= second["logprob"]
    without = await model.complete(ask("go"))
    assert without.choices[0].logprobs is None


async def test_a_prompt_that_is_too_long_names_both_lengths(tiny: Path) -> None:
    async with tiny_model(tiny) as model:
        with pytest.raises(ContextTooLong, match=r"has 1007 tokens, .* at most 159:"):
            await model.complete(ask("x" * 1000))
    async with tiny_model(tiny, max_prompt_tokens=20) as model:
        with pytest.raises(ContextTooLong, match="at most 20:"):
            await model.complete(ask("x" * 30))
        assert (await model.complete(ask("x"))).usage.prompt_tokens == 8


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"tools": [{"type": "function"}]}, "does not support tools"),
        ({"logit_bias": {"1": 2}}, "does not support logit_bias"),
        ({"presence_penalty": 0.5}, "does not support presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format 'json_object'"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"top_p": 2}, "top_p = 2"),
        ({"top_p": "much"}, "top_p = 'much'"),
        ({"max_tokens": 0}, "max_tokens = 0"),
        ({"top_logprobs": 99}, "top_logprobs = 99"),
        ({"seed": "x"}, "seed = 'x'"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    model: LocalModel, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Refused, match=complaint):
        await model.complete(ask("go", **fields))


async def test_no_samples_at_all_are_refused(model: LocalModel) -> None:
    with pytest.raises(Refused, match="n = 0"):
        await model.complete(ask("go"), n=0)


async def test_pictures_are_refused_and_text_parts_are_read(model: LocalModel) -> None:
    parts = [{"type": "text", "text": "go"}]
    message = Message(role="user", content=parts)
    request = ChatRequest(model="student", messages=[message], max_tokens=20)
    assert texts(await model.complete(request)) == texts(await model.complete(ask("go")))
    picture = Message(role="user", content=[{"type": "image_url", "image_url": {}}])
    with pytest.raises(Refused, match="image_url part"):
        await model.complete(ChatRequest(model="student", messages=[picture]))


async def test_messages_that_the_template_refuses_are_refused(model: LocalModel) -> None:
    request = ChatRequest(model="s", messages=[Message(role="forbidden", content="x")])
    with pytest.raises(Refused, match="no such role"):
        await model.complete(request)


async def test_the_samples_that_a_request_asks_for_are_drawn(model: LocalModel) -> None:
    assert len((await model.complete(ask("go", n=2))).choices) == 2


async def test_a_stream_has_the_text_of_the_completion(model: LocalModel) -> None:
    for fields in ({}, {"stop": "zz"}, {"stop": None, "temperature": 1.0, "seed": 3}):
        request = ask("take apple 1", **fields)
        expected = await model.complete(request)
        chunks = [chunk async for chunk in model.stream(request)]
        choices = [chunk["choices"][0] for chunk in chunks[:-1]]
        assert "".join(c["delta"].get("content", "") for c in choices) == expected.text
        assert choices[0]["delta"]["role"] == "assistant"
        assert choices[-1]["finish_reason"] == expected.choices[0].finish_reason
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == expected.usage.output_tokens


async def test_a_stream_never_shows_what_a_stop_string_takes_back(model: LocalModel) -> None:
    whole = (await model.complete(ask("take apple 1"))).text
    request = ask("take apple 1", stop=whole[3:7], stream_options={"include_usage": False})
    chunks = [chunk async for chunk in model.stream(request)]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole[: whole.index(whole[3:7])]
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_stream_that_fails_raises(model: LocalModel) -> None:
    with pytest.raises(ContextTooLong):
        await anext(model.stream(ask("x" * 1000)))


class Pause:
    """Holds the generation at its second token until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tutelage.runtime.models import generation

        self.reached, self.go_on = threading.Event(), threading.Event()
        self.tokens = 0
        original = generation.choose_tokens

        def pausing(*arguments: Any) -> Any:
            self.tokens += 1
            if self.tokens == 2:
                self.reached.set()
                self.go_on.wait(30)
            return original(*arguments)

        monkeypatch.setattr(generation, "choose_tokens", pausing)


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pause]:
    made = Pause(monkeypatch)
    yield made
    made.go_on.set()


async def test_a_cancelled_call_stops_at_the_next_token(model: LocalModel, pause: Pause) -> None:
    task = asyncio.create_task(model.complete(ask("take apple 1")))
    await asyncio.to_thread(pause.reached.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pause.go_on.set()
    after = await model.complete(ask("take apple 1", max_tokens=1))
    assert after.usage.output_tokens == 1
    assert pause.tokens == 3


async def test_a_stream_that_is_left_stops_at_the_next_token(
    model: LocalModel, pause: Pause
) -> None:
    stream = model.stream(ask("take apple 1"))
    await anext(stream)
    await asyncio.to_thread(pause.reached.wait, 30)
    await stream.aclose()
    pause.go_on.set()
    await model.complete(ask("take apple 1", max_tokens=1))
    assert pause.tokens == 3


async def test_the_event_loop_is_free_while_the_student_thinks(
    model: LocalModel, pause: Pause
) -> None:
    task = asyncio.create_task(model.complete(ask("take apple 1")))
    await asyncio.to_thread(pause.reached.wait, 30)
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 100
    assert not task.done()
    pause.go_on.set()
    assert (await task).text


async def test_a_failure_inside_torch_is_a_bad_response(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("out of memory\nmore lines")

    monkeypatch.setattr("tutelage.runtime.models.generation.choose_tokens", fail)
    with pytest.raises(BadResponse, match=r"out of memory$"):
        await model.complete(ask("go"))


async def test_the_answer_is_stamped_by_the_clock(tiny: Path) -> None:
    async with tiny_model(tiny, clock=lambda: 1234.5) as model:
        await model.load()
        first, second = await model.complete(ask("go")), await model.complete(ask("go"))
    assert first.created == 1234
    assert first.id != second.id


def test_a_missing_checkpoint_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make student"):
        LocalModel(tmp_path / "nothing")


async def test_a_folder_without_weights_is_no_checkpoint(tmp_path: Path) -> None:
    async with LocalModel(tmp_path) as model:
        with pytest.raises(ConfigError, match="no usable checkpoint"):
            await model.load()


async def test_a_checkpoint_without_a_chat_template_is_refused(
    tmp_path: Path, make_tiny_llama: Callable[..., Path]
) -> None:
    folder = make_tiny_llama(tmp_path, template=None)
    async with LocalModel(folder) as model:
        with pytest.raises(ConfigError, match="no chat template"):
            await model.load()


async def test_an_unknown_type_of_weights_is_named(tiny: Path) -> None:
    async with LocalModel(tiny, dtype="bfloat17") as model:
        with pytest.raises(ConfigError, match="'bfloat17'"):
            await model.load()


@pytest.mark.student
@pytest.mark.slow
async def test_the_real_student_answers_the_same_with_its_prefix_cache(checkpoint: Path) -> None:
    demonstrations = " ".join(f"On the desk {i} you see a mug {i}." for i in range(20))
    request = ask(f"{demonstrations} What is the capital of France?", logprobs=True)
    other = ask(f"{demonstrations} Which colour has the sky?", max_tokens=1)
    async with LocalModel(checkpoint, threads=1, cached_prompts=0) as fresh:
        expected = await fresh.complete(request)
    async with LocalModel(checkpoint, threads=1) as cached:
        await cached.complete(other)
        reused = await cached.complete(request)
        three = await cached.complete(request, n=3)
    assert reused.usage.cache_read_tokens > 200
    assert reused.usage.prompt_tokens == expected.usage.prompt_tokens
    assert texts(reused) == texts(expected)
    # The weights are bf16: rounding depends on how many tokens are computed together.
    assert logprobs(reused) == pytest.approx(logprobs(expected), abs=0.25)
    assert texts(three) == texts(reused) * 3


@pytest.mark.student
@pytest.mark.slow
async def test_the_real_student_answers_a_simple_question(checkpoint: Path) -> None:
    async with LocalModel(checkpoint, threads=1) as model:
        completion = await model.complete(ask("What is the capital of France?"))
        cut = await model.complete(ask("What is the capital of France?", stop=" is"))
    assert "Paris" in completion.text
    assert completion.choices[0].finish_reason == "stop"
    assert cut.text == completion.text.split(" is")[0]
