"""Students: the real one's checkpoint and vLLM server, and a tiny one with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.absence import absent

from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.models.checkpoint import student_checkpoint
from tutelage.runtime.models.student_server import student_server_state
from tutelage.runtime.models.vllm import ServerMetrics, VllmServer, read_metrics
from tutelage.runtime.models.vllm_environment import detect_device, is_installed, vllm_folder


@dataclass(frozen=True)
class VllmEndpoint:
    """A vLLM server that answers."""

    base_url: str
    model: str

    def metrics(self) -> ServerMetrics:
        return read_metrics(self.base_url)


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The student's checkpoint from the cache, made there if it is missing."""
    return student_checkpoint(cache_dir())


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEndpoint]:
    """The server at TUTELAGE_VLLM_URL, else the one that runs in the background, else a new one."""
    url = os.environ.get("TUTELAGE_VLLM_URL")
    if url:
        yield VllmEndpoint(url, os.environ.get("TUTELAGE_VLLM_MODEL", "student"))
        return
    running = student_server_state(cache_dir())
    if running is not None and running.ready:
        yield VllmEndpoint(running.base_url, running.model)
        return
    device = detect_device()
    folder = vllm_folder(cache_dir(), device)
    if not is_installed(folder):
        absent(f"vLLM is not installed in {folder}: run `make student`")
    log_path = tmp_path_factory.mktemp("vllm") / "server.log"
    made = student_checkpoint(cache_dir())
    with VllmServer(made, device=device, log_path=log_path, start_timeout_s=600.0) as server:
        yield VllmEndpoint(server.base_url, server.served_name)


TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'forbidden' %}{{ raise_exception('no such role') }}{% endif %}"
    "<s>{{ message['role'][0] }}:{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>a:{% endif %}"
)
LONGEST = 160
"""Tokens in its window."""


def write_tiny_llama(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    words = {word: index for index, word in enumerate(["<s>", "</s>", "<unk>", *characters])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(""), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=template,
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_tiny_llama() -> Callable[..., Path]:
    """Writes a tiny checkpoint into a folder; ``template`` takes the place of its chat template."""
    return write_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with a window of 160 tokens."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the schema of this release, to be copied."""
    from tutelage.runtime.store.database import migrate, open_engine

    path = tmp_path_factory.mktemp("database") / "empty.sqlite"
    made = open_engine(f"sqlite:///{path}")
    migrate(made)
    made.dispose()
    return path
