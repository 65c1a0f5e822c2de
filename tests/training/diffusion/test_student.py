from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training.diffusion.toys import toy_student

from tutelage.runtime.errors import CheckpointDamaged, ConfigError, ContextTooLong, Refused
from tutelage.training.diffusion.attention import allowed
from tutelage.training.diffusion.canvas import Canvas, lay_out
from tutelage.training.diffusion.chat import MASK, ChatTokens, word_tokens
from tutelage.training.diffusion.conversion import convert_llama
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.student import load_diffusion_student

CHAT = [{"role": "user", "content": "go to desk 1"}]


@pytest.mark.parametrize("tied", [True, False])
def test_a_student_comes_back_from_its_folder_in_one_call(tmp_path: Path, tied: bool) -> None:
    made = toy_student(tied=tied, attention="block-causal")
    folder = made.save(tmp_path / "student")
    loaded = load_diffusion_student(folder)

    canvas = lay_out([[3, 4]], [[5, 6, 7]], made.shape)
    torch.testing.assert_close(
        loaded.model.score(canvas, canvas.tokens), made.model.score(canvas, canvas.tokens)
    )
    assert loaded.shape == made.shape
    assert loaded.prompt(CHAT) == made.prompt(CHAT)
    assert loaded.chat.decode(loaded.chat.encode("take mug from desk 1")) == "take mug from desk 1"


def test_words_that_were_never_seen_are_unknown() -> None:
    chat = word_tokens(["go to desk"])

    assert chat.decode(chat.encode("go to sink")) == "go to"
    assert chat.decode(chat.prompt(CHAT)) == "go to desk"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("diffusion.json", "it has no diffusion.json"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("chat_template.jinja", "has no usable chat_template.jinja"),
        ("model.safetensors", "has no model.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path, file: str, words: str) -> None:
    folder = toy_student().save(tmp_path)
    (folder / file).unlink()
    with pytest.raises(ConfigError, match=words):
        load_diffusion_student(folder)


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("diffusion.json", '{"width": 3}', ConfigError),
        ("tokenizer.json", "{}", ConfigError),
        ("chat_template.jinja", "{% for %}", ConfigError),
        ("model.safetensors", "not weights", CheckpointDamaged),
    ],
)
def test_a_damaged_file_is_one_line(
    tmp_path: Path, file: str, text: str, error: type[Exception]
) -> None:
    folder = toy_student().save(tmp_path)
    (folder / file).write_text(text)
    with pytest.raises(error, match=file) as raised:
        load_diffusion_student(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["shape", "missing", "extra"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str) -> None:
    folder = toy_student().save(tmp_path)
    weights = load_file(folder / "model.safetensors")
    if damage == "shape":
        weights["norm.weight"] = torch.ones(3)
    elif damage == "missing":
        del weights["norm.weight"]
    else:
        weights["more"] = torch.ones(3)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointDamaged, match="does not fit the shape"):
        load_diffusion_student(folder)


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    student = toy_student(max_positions=20)
    with pytest.raises(ContextTooLong, match="takes 1 to 12"):
        student.prompt([{"role": "user", "content": "go " * 30}])


def test_a_template_may_refuse() -> None:
    chat = ChatTokens(word_tokens([]).tokenizer, "{{ raise_exception('no tools') }}")
    with pytest.raises(Refused, match="no tools"):
        chat.prompt(CHAT)


def test_a_converted_llama_computes_what_it_did(tiny_llama: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    student = convert_llama(tiny_llama, slots=8, block_length=4)
    tokens = torch.tensor([[5, 6, 7, 8, 9, 10]])
    columns = torch.arange(6)
    causal = (columns[:, None] >= columns[None, :])[None]
    hidden = student.model(tokens, columns[None], causal).hidden
    ours = student.model.logits(hidden)[..., : theirs.config.vocab_size]
    with torch.no_grad():
        expected = theirs(tokens).logits
    finite = ours.isfinite()
    torch.testing.assert_close(ours[finite], expected[finite], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("attention", ["full", "block-causal"])
def test_a_converted_llama_has_a_mask_and_another_attention(
    tiny_llama: Path, tmp_path: Path, attention: Any
) -> None:
    made = convert_llama(tiny_llama, attention=attention, shifted=False, slots=8, block_length=4)
    student = load_diffusion_student(made.save(tmp_path))
    shape = student.shape

    assert student.chat.tokenizer.id_to_token(shape.mask_token) == MASK
    assert (shape.attention, shape.shifted) == (attention, False)
    weight = student.model.embedding.weight
    torch.testing.assert_close(weight[shape.mask_token], weight[: shape.mask_token].mean(0))
    canvas = Canvas(torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([2]), 2, 2)
    seen = allowed(canvas, attention)[0]
    assert bool(seen[2, 3]) is True, "within a block everything is seen"
    assert bool(seen[2, 5]) is (attention == "full")
    prompt = student.prompt(CHAT)
    assert decode(student.model, [prompt], DecodingSettings())[0].forwards >= 1


def test_the_end_token_of_a_conversion_may_be_named(tiny_llama: Path) -> None:
    assert convert_llama(tiny_llama, end="<s>", slots=8).shape.end_token == 0
    with pytest.raises(ConfigError, match="end = '<none>' is no token"):
        convert_llama(tiny_llama, end="<none>")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "is a GPT2LMHeadModel"),
        ({"attention_bias": True}, "attention_bias is set"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn'"),
        ({"num_hidden_layers": 3}, "lacks the weights of layers.2"),
        (None, "no readable config.json"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tiny_llama: Path, tmp_path: Path, change: dict[str, Any] | None, words: str
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "copy")
    path = folder / "config.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=words):
        convert_llama(folder)


def test_a_checkpoint_in_parts_is_converted_and_one_without_weights_is_not(
    tiny_llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "copy")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    whole = convert_llama(tiny_llama).model.state_dict()
    for name, weight in convert_llama(folder).model.state_dict().items():
        assert torch.equal(weight, whole[name])
    (folder / "model-00001-of-00001.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no safetensors"):
        convert_llama(folder)
