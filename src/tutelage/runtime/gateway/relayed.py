"""A relayed call as the process that writes traces is told of it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tutelage.runtime.types import Choice, Completion, Decision, Message, Reason, Trace, Usage
from tutelage.runtime.wires.protocol import WireName


class Relayed(NamedTuple):
    """What is known of a call that was passed on unread; plain values only."""

    id: str
    wire: WireName
    tenant: str
    key_id: str | None
    no_train: bool
    session: str | None
    """That the client named."""
    raw: bytes
    """Its body."""
    message: dict[str, Any] | None
    """The assistant's message of the answer, as far as it came; ``None``: none came."""
    usage: tuple[int, int, int, int] | None
    """Tokens of the teacher: input, read from its cache, written to it, output."""
    is_estimated: bool
    upstream: str | None
    """The one that answered, else the one that was asked first."""
    error: str | None
    """Why the answer broke off, in one line."""
    created_at_s: float
    teacher_s: float
    total_s: float


class Note(NamedTuple):
    """What only the trace of a call tells of it."""

    episode_id: str
    step_index: int
    cost_usd: float | None
    baseline_cost_usd: float | None


_BRIEF: Final = Trace(
    id="", tenant="", episode_id="", step_index=0, created_at_s=0.0, model="", mode="passthrough",
    goal="", observation="", answer="",
    decision=Decision(served="teacher", reason=Reason.PASSTHROUGH),
)  # fmt: skip


def brief_trace(call: Relayed, note: Note, model: str) -> Trace:
    """The trace of a call for those who only count: without goal, observation, answer, prompt.

    Args:
        call: The call.
        note: What its trace said.
        model: That the client asked for.
    """
    update: dict[str, Any] = {
        "id": call.id,
        "tenant": call.tenant,
        "episode_id": note.episode_id,
        "step_index": note.step_index,
        "created_at_s": call.created_at_s,
        "model": model,
        "key_id": call.key_id,
        "no_train": call.no_train,
        "baseline_cost_usd": note.baseline_cost_usd,
        "latency_s": {"teacher": call.teacher_s, "total": call.total_s},
        "error": call.error,
        "finished": call.error is None,
        "usage": {},
        "cost_usd": {} if note.cost_usd is None else {"teacher": note.cost_usd},
    }
    if call.usage is not None:
        update["usage"] = {"teacher": usage_of(call.usage)}
    return _BRIEF.model_copy(update=update)


def spoken(message: dict[str, Any] | None) -> Completion | None:
    """An answer of which no more matters than what it says."""
    if message is None:
        return None
    choice = Choice(index=0, message=Message.model_validate(message))
    return Completion(id="", model="", choices=[choice])


def usage_of(told: tuple[int, int, int, int]) -> Usage:
    """The usage that a call tells."""
    read, cached, written, output = told
    return Usage(
        input_tokens=read,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )
