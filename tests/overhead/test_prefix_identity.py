"""The pinned layouts keep the prefix of an episode's prompts, token by token."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.setting import TENANT, Setting
from tutelage.policies import Choice
from tutelage.runtime.config import PromptConfig, RetrievalConfig
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import Layout
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import ChatRequest, Message

TokenIds = Callable[[list[Message]], list[int]]


@pytest.fixture
def token_ids(checkpoint: Path) -> TokenIds:
    """Tokens of messages in SmolLM2's chat template, by its own tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    def ids(messages: list[Message]) -> list[int]:
        text = "".join(f"<|im_start|>{m.role}\n{m.text}<|im_end|>\n" for m in messages)
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return ids


def shared(one: list[int], other: list[int]) -> int:
    """Tokens that both begin with."""
    ends = (place for place, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1)
    return next(ends, min(len(one), len(other)))


async def prompts(setting: Setting, layout: Layout, pinned_k: int) -> list[tuple[ChatRequest, int]]:
    """The prompt of each step of an episode, and how many messages stand before its own part."""
    made = setting.with_retrieval(RetrievalConfig(pinned_k=pinned_k), layout)
    made.config = made.config.model_copy(
        update={"prompt": PromptConfig(layout=layout, max_prompt_tokens=8000)}
    )
    student = ScriptedModel("look")
    runtime = made.runtime(
        teacher=ScriptedModel("look"),
        student=student,
        choice=Choice(policy="always-student", guards=(), bare=True),
        traces=MemoryTraceStore(),
    )
    recorded = next(one for one in oracle_episodes("test:60", TENANT) if len(one.turns) >= 8)
    episode = runtime.episode(tenant=TENANT, task_id=recorded.task_id)
    found = []
    for request in requests(recorded, "Act in the house."):
        await runtime.complete(request, episode=episode)
        lead = 1 + sum(2 * len(one.demonstration.window) for one in episode.pinned or ())
        found.append((student.requests[-1], lead))
    return found


def own_part(prompt: ChatRequest, lead: int, transcript: list[Message]) -> int:
    """Messages before what is the step's own: the prefix, and the transcript as it stands."""
    place = lead
    for message, said in zip(prompt.messages[lead:], transcript, strict=False):
        if message != said:
            break
        place += 1
    return place


@pytest.mark.student
@pytest.mark.parametrize("pinned_k", [1, 0])
async def test_all_before_a_steps_own_part_is_the_start_of_the_next_prompt_token_by_token(
    setting: Setting, token_ids: TokenIds, pinned_k: int
) -> None:
    found = await prompts(setting, "pinned-delta", pinned_k)
    recorded = next(one for one in oracle_episodes("test:60", TENANT) if len(one.turns) >= 8)
    asked = list(requests(recorded, "Act in the house."))
    stable = [
        own_part(prompt, lead, list(request.messages[1:]))
        for (prompt, lead), request in zip(found, asked, strict=True)
    ]
    (lead,) = {lead for _, lead in found}
    # What mirrors a window stands behind the demonstrations of the step: the transcript before it
    # grows once it is longer than that.
    assert lead > 1
    assert min(stable) >= lead
    assert stable[2:] == sorted(stable[2:])
    assert stable[-1] > lead + 4
    for ((earlier, _), (later, _)), kept in zip(
        pairwise(found), map(min, pairwise(stable)), strict=True
    ):
        before = token_ids(earlier.messages[:kept])
        assert shared(before, token_ids(later.messages)) == len(before)
    # Beyond the prefix the prompts do differ: each step has demonstrations of its own.
    tails = {str(prompt.messages[kept:]) for (prompt, _), kept in zip(found, stable, strict=True)}
    assert len(tails) == len(found)


@pytest.mark.student
async def test_a_pinned_delta_prompt_shares_more_with_the_one_before_than_a_per_step_one(
    setting: Setting, token_ids: TokenIds
) -> None:
    shares = {}
    layouts: tuple[Layout, ...] = ("per-step", "pinned-delta")
    for layout in layouts:
        ids = [token_ids(one.messages) for one, _ in await prompts(setting, layout, 1)]
        kept = sum(shared(one, other) for one, other in pairwise(ids))
        shares[layout] = kept / sum(len(one) for one in ids[1:])
    assert shares["pinned-delta"] > 0.3 > shares["per-step"]
