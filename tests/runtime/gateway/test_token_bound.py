"""Upper estimates against a real tokenizer, and against what pictures and documents are."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.absence import absent

from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.gateway.token_bound import (
    TOKENS_FOR_TOOLS,
    TOKENS_PER_IMAGE,
    TOKENS_PER_REFERENCE,
    prompt_tokens,
    text_tokens,
)
from tutelage.runtime.models.checkpoint import NAME

PICTURE = base64.b64encode(random.Random(1).randbytes(90_000)).decode()
DOCUMENT = base64.b64encode(b"%PDF-1.7" + random.Random(2).randbytes(90_000)).decode()
SOURCES = Path(__file__).parents[3]

Count = Callable[[str], int]


@pytest.fixture(scope="session")
def tokenizer() -> Count:
    """Tokens as the student's own tokenizer counts them; it falls back on bytes."""
    file = cache_dir() / NAME / "tokenizer.json"
    if not file.is_file():
        absent("the checkpoint of the student is not here: make student")
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(file))
    return lambda text: len(made.encode(text, add_special_tokens=False).ids)


def call(text: str, *, ascii_only: bool = False) -> tuple[bytes, dict[str, Any]]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"), body


WORD = st.text(st.sampled_from(string.ascii_lowercase), min_size=1, max_size=9)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.text(st.sampled_from(string.digits + " ,.-"), max_size=300),
    st.text(st.sampled_from("😀🚀👩‍🔬🏳️‍🌈❤️𝄞 "), max_size=100),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=200),
    st.text(st.sampled_from(string.printable), max_size=300),
    st.text(st.sampled_from("0123456789abcdef-"), max_size=300),
    st.lists(WORD, max_size=60).map(" ".join),
    st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()),
    st.recursive(
        st.integers() | st.text(max_size=8) | st.booleans(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORD, inner, max_size=5),
        max_leaves=30,
    ).map(json.dumps),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, times=st.sampled_from([1, 1, 3]), ascii_only=st.booleans())
def test_no_prompt_has_more_tokens_than_its_estimate(
    text: str, times: int, ascii_only: bool, tokenizer: Count
) -> None:
    prompt = text * times
    assert tokenizer(prompt) <= prompt_tokens(*call(prompt, ascii_only=ascii_only))


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from(string.ascii_letters + " "), max_size=400))
def test_the_worst_letters_have_twice_the_estimate_at_most(text: str, tokenizer: Count) -> None:
    assert tokenizer(text) <= 2 * text_tokens(text.encode())


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "src/tutelage/runtime/pipeline.py", "pyproject.toml"]
)
def test_ordinary_text_is_estimated_at_one_to_three_times_its_tokens(
    path: str, tokenizer: Count
) -> None:
    text = (SOURCES / path).read_text()
    assert tokenizer(text) <= text_tokens(text.encode()) <= 3 * tokenizer(text)


@pytest.mark.parametrize("text", ["7" * 1000, "😀" * 250, "!?" * 500, "QX" * 500, "中" * 333])
def test_what_tokenizers_cut_small_counts_byte_by_byte(text: str) -> None:
    assert text_tokens(text.encode()) == len(text.encode())


def test_no_text_is_nothing() -> None:
    assert text_tokens(b"") == 0
    assert prompt_tokens(b"", {}) == 0


def of(*parts: dict[str, Any], field: str = "messages", **more: Any) -> int:
    """The estimate of a call with these parts, less that of the same call without them."""

    def estimate(content: list[dict[str, Any]], **fields: Any) -> int:
        body = {"model": "m", field: [{"role": "user", "content": content}], **fields}
        return prompt_tokens(json.dumps(body).encode(), body)

    return estimate(list(parts), **more) - estimate([])


def data(content: str, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{content}"


IMAGES: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
    {"type": "image_url", "image_url": {"url": data(PICTURE)}},
    {"type": "image_url", "image_url": data(PICTURE)},
    {"type": "input_image", "image_url": data(PICTURE)},
    {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "high"},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
    {"type": "computer_screenshot", "image_url": data(PICTURE)},
]


@pytest.mark.parametrize("part", IMAGES)
def test_a_picture_counts_as_one_wherever_its_bytes_are(part: dict[str, Any]) -> None:
    assert TOKENS_PER_IMAGE < of(part) < TOKENS_PER_IMAGE + 150


@pytest.mark.parametrize("part", IMAGES)
def test_a_picture_that_a_tool_returned_counts_as_one(part: dict[str, Any]) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [part, part]}
    assert 2 * TOKENS_PER_IMAGE < of(result) < 2 * TOKENS_PER_IMAGE + 300
    output = {"type": "function_call_output", "call_id": "c", "output": [part]}
    assert TOKENS_PER_IMAGE < of(output, field="input") < TOKENS_PER_IMAGE + 200


def test_slashes_may_be_escaped() -> None:
    body = {"messages": [{"role": "user", "content": [IMAGES[1]]}]}
    raw = json.dumps(body).replace("/", "\\/").encode()
    assert prompt_tokens(raw, body) < TOKENS_PER_IMAGE + 150


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": data(DOCUMENT, "application/pdf")}},
        {"type": "file", "file": {"file_data": DOCUMENT}},
        {"type": "input_file", "file_data": data(DOCUMENT, "application/pdf")},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": DOCUMENT},
        },
    ],
)
def test_a_document_counts_by_its_pages(part: dict[str, Any]) -> None:
    """90 kB are five pages, of 20 kB at most, begun."""
    assert 15_000 <= of(part) < 15_250


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
    ],
)
def test_a_document_elsewhere_has_a_fixed_estimate(part: dict[str, Any]) -> None:
    assert TOKENS_PER_REFERENCE < of(part) < TOKENS_PER_REFERENCE + 150


def test_a_document_of_plain_text_counts_as_text() -> None:
    words = "a plain text of several words " * 200
    source = {"type": "text", "media_type": "text/plain", "data": words}
    found = of({"type": "document", "source": source})
    assert text_tokens(words.encode()) <= found < text_tokens(words.encode()) + 150
    blocks = {"type": "content", "content": [{"type": "text", "text": words}]}
    assert of({"type": "document", "source": blocks}) >= text_tokens(words.encode())


def test_a_file_that_is_no_pdf_counts_as_text() -> None:
    content = data(base64.b64encode(b"a plain text " * 500).decode(), "text/plain")
    part = {"type": "input_file", "file_data": content}
    assert of(part, field="input") >= text_tokens(content.encode())


def test_a_recording_counts_by_its_length() -> None:
    part = {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "mp3"}}
    assert len(PICTURE) // 50 <= of(part) < len(PICTURE) // 50 + 150


def test_what_an_endpoint_adds_for_tools_counts() -> None:
    assert of(tools=[{"type": "function", "function": {"name": "f"}}]) > TOKENS_FOR_TOOLS


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["type", "source", "data", "url", "file", "file_data", "image_url", "media_type",
             "input_audio", "content"]
        ),
        inner | st.sampled_from(["image", "file", "document", "input_audio", "base64", "text"]),
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(content=NESTED)
def test_whatever_a_body_holds_is_estimated(content: Any) -> None:
    body = {"messages": content, "input": content}
    assert prompt_tokens(json.dumps(body).encode("utf-8", "surrogatepass"), body) >= 0
