"""Retrieved demonstrations as what a drafter guesses from: n-gram against plain, by layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.assembly import Assembly
from tutelage.overhead.drafted_calls import WARM_UP, DraftedCalls, measured_calls
from tutelage.overhead.drafters import DRAFTERS, PLAIN, Drafter, MakeServer, speed_up
from tutelage.overhead.layout_table import Asked, steps_of
from tutelage.overhead.layouts import salted
from tutelage.overhead.noted_prompts import noted_prompts
from tutelage.overhead.setting import TENANT, Setting
from tutelage.runtime.config import RetrievalConfig
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Message

COLUMNS = (
    "layout",
    "drafter",
    "right",
    "accepted of drafted",
    "tokens a forward",
    "ms a step",
    "CPU ms a step",
    "over plain (95 %)",
)
NGRAM = DRAFTERS[1]


@dataclass(frozen=True, slots=True)
class LayoutDrafting:
    """One layout with one drafter."""

    layout: str
    drafter: Drafter
    calls: DraftedCalls
    right: int
    """Steps in which the answer is the teacher's action."""


def drafted_layouts(setting: Setting) -> dict[str, Assembly]:
    """What is compared, by name."""
    return {
        "no demonstrations": setting.with_retrieval(RetrievalConfig(enabled=False)),
        "per-step": setting.with_layout("per-step"),
        "pinned": setting.with_layout("pinned"),
    }


async def measure_drafting(
    setting: Setting,
    make_server: MakeServer,
    *,
    steps: int,
    drafters: Sequence[Drafter] = (DRAFTERS[0], NGRAM),
    told: Callable[[str], None] = lambda _: None,
) -> list[LayoutDrafting]:
    """Every layout with every drafter over the same teacher-forced household steps.

    The servers run one after another; within one the layouts take turns, an episode each, below
    system lines of their own, so that none reads the prefixes of another. One greedy answer a step.

    Args:
        setting: Parts and bank.
        make_server: Makes the student's servers.
        steps: Steps asked in each layout.
        drafters: The plain one first.
        told: Hears what is under way.

    Raises:
        ModelError: A server does not run or answer.
    """
    material = list(steps_of(steps))
    prompts = {
        name: await _prompts(assembly, material)
        for name, assembly in drafted_layouts(setting).items()
    }
    found: list[LayoutDrafting] = []
    key = _canonical(setting.assembly)
    for drafter in drafters:
        told(f"{drafter.name}: starting vLLM")
        server = make_server(drafter.speculation)
        async with server, OpenAIModel(server.base_url, server.served_name) as student:
            await student.complete(WARM_UP)
            told(f"{drafter.name}: {len(material)} steps in {len(prompts)} layouts")
            played = await _in_turns(student, server.base_url, server.pid, prompts, material)
        for name, calls in played.items():
            pairs = zip(calls.texts, material, strict=True)
            right = sum(key(text) == key(one.action) for text, one in pairs)
            found.append(LayoutDrafting(name, drafter, calls, right))
    return found


async def _in_turns(
    student: Model,
    base_url: str,
    pid: int | None,
    prompts: Mapping[str, Sequence[ChatRequest]],
    material: Sequence[Asked],
) -> dict[str, DraftedCalls]:
    played: dict[str, DraftedCalls] = {}
    for episode in sorted({one.episode for one in material}):
        places = [place for place, one in enumerate(material) if one.episode == episode]
        for name, requests in prompts.items():
            asked = [requests[place] for place in places]
            calls = await measured_calls(student, base_url, asked, pid=pid)
            played[name] = played[name] + calls if name in played else calls
    return played


async def _prompts(assembly: Assembly, material: Sequence[Asked]) -> list[ChatRequest]:
    """What the student is sent at each step."""
    system = Message(role="system", content=salted())
    episodes: dict[int, tuple[str | None, list[ChatRequest]]] = {}
    for one in material:
        request = one.request.model_copy(
            update={"messages": [system, *one.request.messages[1:]], "temperature": 0.0}
        )
        episodes.setdefault(one.episode, (one.task_id, []))[1].append(request)
    return await noted_prompts(assembly, TENANT, list(episodes.values()))


def _canonical(assembly: Assembly) -> Callable[[str], object]:
    canonicalizer = assembly.policies.canonicalizer

    def key(text: str) -> object:
        return canonicalizer.action(Message(role="assistant", content=text))

    return key


def rows(found: Sequence[LayoutDrafting]) -> list[list[str]]:
    """The table, a row a layout and drafter."""
    plain = {one.layout: one.calls for one in found if one.drafter.name == PLAIN}
    made = []
    for one in sorted(found, key=lambda each: list(plain).index(each.layout)):
        counted, cpu_ms = one.calls.counters, one.calls.cpu_ms
        share = "-" if counted.acceptance is None else f"{counted.acceptance:.2f}"
        is_plain = one.drafter.name == PLAIN
        made.append(
            [
                one.layout,
                one.drafter.name,
                f"{one.right / len(one.calls.call_s):.2f}",
                f"{share} ({counted.accepted_tokens} of {counted.drafted_tokens})",
                "-" if counted.tokens_a_forward is None else f"{counted.tokens_a_forward:.2f}",
                f"{one.calls.mean_ms:.0f}",
                "-" if cpu_ms is None else f"{cpu_ms:.0f}",
                "-" if is_plain else speed_up(plain[one.layout], one.calls).text,
            ]
        )
    return made


def document(found: Sequence[LayoutDrafting]) -> list[dict[str, Any]]:
    """The figures as JSON values."""
    return [
        {
            "layout": one.layout,
            "drafter": one.drafter.name,
            "right": one.right,
            **one.calls.document(),
        }
        for one in found
    ]
