from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.training.recipes.toys import chat, example

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.runtime.models.generation import TextGenerator
from tutelage.training.recipes.tokenized import (
    ChatTokenizer,
    TokenizedChat,
    load_tokenizer,
    template_tools,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> ChatTokenizer:
    return load_tokenizer(tiny_llama)


def learned(tokenizer: ChatTokenizer, encoded: TokenizedChat) -> str:
    ids = [t for t, on in zip(encoded.tokens, encoded.supervised, strict=True) if on]
    return str(tokenizer.tokenizer.decode(ids))


def test_loss_is_on_each_turn_and_the_token_that_ends_it(tokenizer: ChatTokenizer) -> None:
    encoded = tokenizer.encode(example(0), 120)
    assert encoded is not None
    assert learned(tokenizer, encoded) == "ash</s>bay</s>"
    assert tokenizer.tokenizer.decode(encoded.tokens) == (
        "<s>s:say it back</s><s>u:ash</s><s>a:ash</s><s>u:bay</s><s>a:bay</s>"
    )


def test_only_the_named_turns_carry_loss(tokenizer: ChatTokenizer) -> None:
    encoded = tokenizer.encode(example(0).model_copy(update={"supervised": (4,)}), 120)
    assert encoded is not None
    assert learned(tokenizer, encoded) == "bay</s>"


def test_what_precedes_a_turn_has_the_tokens_of_the_served_prompt(
    tokenizer: ChatTokenizer, tiny_llama: Path
) -> None:
    one = example(3)
    encoded = tokenizer.encode(one, 120)
    assert encoded is not None
    served = TextGenerator(tiny_llama, threads=1, dtype="float32").encode(list(one.messages[:4]))
    assert encoded.tokens[: len(served)] == served
    assert encoded.supervised[len(served)]
    assert not encoded.supervised[len(served) - 1]


def test_a_long_chat_ends_after_the_last_turn_that_fits(tokenizer: ChatTokenizer) -> None:
    whole = tokenizer.encode(example(0), 120)
    assert whole is not None
    cut = tokenizer.encode(example(0), len(whole.tokens) - 1)
    assert cut is not None
    assert learned(tokenizer, cut) == "ash</s>"
    assert (cut.lost_turns, whole.lost_turns) == (1, 0)
    assert tokenizer.encode(example(0), 10) is None


def test_parts_of_a_message_are_joined_and_an_absent_content_is_empty(
    tokenizer: ChatTokenizer,
) -> None:
    messages = chat("x", "ab")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "?"]
    for changed in ({"role": "user", "content": parts}, {"role": "user", "content": None}):
        one = example(0).model_copy(
            update={"messages": (messages[0], changed, messages[2]), "supervised": (2,)}
        )
        encoded = tokenizer.encode(one, 120)
        assert encoded is not None
        text = tokenizer.tokenizer.decode(encoded.tokens)
        assert ("u:ab<" in text) == (changed["content"] is not None)


@pytest.mark.parametrize(
    ("supervised", "words"),
    [((1,), "role 'user'"), ((9,), "message 9 of 5"), ((0,), "message 0 of 5")],
)
def test_only_messages_of_the_assistant_can_be_learned(
    tokenizer: ChatTokenizer, supervised: tuple[int, ...], words: str
) -> None:
    with pytest.raises(TrainingError, match=words):
        tokenizer.encode(example(0).model_copy(update={"supervised": supervised}), 120)


def test_a_template_that_rewrites_the_past_is_refused(
    make_tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    last_only = (
        "{% for m in messages %}<s>{{ m['role'][0] }}:"
        "{% if loop.last or m['role'] != 'assistant' %}{{ m['content'] }}{% endif %}</s>"
        "{% endfor %}{% if add_generation_prompt %}<s>a:{% endif %}"
    )
    strict = load_tokenizer(make_tiny_llama(tmp_path, template=last_only))
    with pytest.raises(TrainingError, match="make one example a step"):
        strict.encode(example(0), 120)
    step = example(0).model_copy(update={"supervised": (4,)})
    assert strict.encode(step, 120) is not None


WITH_TOOLS = (
    "{% for t in tools or [] %}<s>{{ t | tojson }}</s>{% endfor %}"
    "{% for m in messages %}<s>{{ m['role'][0] }}:{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>a:{% endif %}"
)


def test_tools_stand_in_the_prompt_as_the_template_shows_them_when_served(
    make_tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    made = load_tokenizer(make_tiny_llama(tmp_path, template=WITH_TOOLS))
    shape = {"type": "object", "properties": {}}
    sent = {"function": {"parameters": shape, "odd": 1, "name": "go"}, "type": "function"}
    offered = example(0).model_copy(update={"tools": (sent,)})
    as_served = [
        {"type": "function", "function": {"name": "go", "description": None, "parameters": shape}}
    ]
    prompt = made.tokenizer.apply_chat_template(
        list(offered.messages[:2]), tools=as_served, tokenize=False, add_generation_prompt=True
    )
    encoded, plain = made.encode(offered, 500), made.encode(example(0), 500)
    assert encoded is not None
    assert plain is not None
    ids = tuple(made.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert encoded.tokens[: len(ids)] == ids
    assert learned(made, encoded) == learned(made, plain) == "ash</s>bay</s>"
    assert len(encoded.tokens) > len(plain.tokens)


def test_a_strict_function_and_a_tool_that_is_no_function_are_shown_as_they_are() -> None:
    strict = {"type": "function", "function": {"name": "go", "strict": True}}
    shown = {"name": "go", "description": None, "parameters": None, "strict": True}
    assert template_tools([strict, {"type": "custom"}]) == [
        {"type": "function", "function": shown},
        {"type": "custom"},
    ]
    assert template_tools([]) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "does not end the turns"),
        ("{{ raise_exception('no') }}", "refuses example 'episode-0': no"),
        (None, "no chat template"),
    ],
)
def test_an_unfit_template_is_named(
    make_tiny_llama: Callable[..., Path], tmp_path: Path, template: str | None, words: str
) -> None:
    with pytest.raises(TrainingError, match=words):
        load_tokenizer(make_tiny_llama(tmp_path, template=template)).encode(example(0), 120)


def test_examples_of_no_weight_are_left_out(tokenizer: ChatTokenizer) -> None:
    kept = tokenizer.encode_all([example(0, weight=0.0), example(1, weight=2.5)], 120)
    assert [(one.id, one.weight) for one in kept] == [("episode-1", 2.5)]


def test_nothing_to_learn_says_what_to_change(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(NoExamples, match="raise max_tokens"):
        tokenizer.encode_all([example(0)], 10)
    with pytest.raises(NoExamples, match="weight above 0"):
        tokenizer.encode_all([example(0, weight=0.0)], 120)
    with pytest.raises(NoExamples, match="fits whole within max_tokens=40"):
        tokenizer.encode_pairs([(example(0), example(1))], 40)


def test_of_a_pair_both_fit_or_neither_is_kept(
    tokenizer: ChatTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = example(0, turns=1), example(1, turns=3)
    first, second = tokenizer.encode_pairs([(short, long), (short, short)], 60)
    assert [len(first), len(second)] == [1, 1]
    assert "leaves out 1 examples" in caplog.text


def test_what_is_cut_is_logged(tokenizer: ChatTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer.encode_all([example(0, turns=1), example(1, turns=3)], 60)
    assert "leaves out 0 examples and cuts" in caplog.text


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)
