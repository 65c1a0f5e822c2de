"""The student's recorded prompts as requests, to measure servers with."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from tutelage.assembly import Assembly
from tutelage.overhead.drafters import MakeServer
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.models.speculation import Speculation, speculative_arguments
from tutelage.runtime.types import ChatRequest, Message, Trace

LOOKED_AT = 10_000
"""Newest traces among which the steps are looked for."""
UNKNOWN_TOKENS = 64
"""Limit of an answer whose length was not recorded."""


async def recorded_steps(assembly: Assembly, tenant: str, count: int) -> list[ChatRequest]:
    """What the student was asked in a tenant's newest steps, oldest first.

    Demonstrations are in these prompts as they were; the answer may be as long as it was.

    Args:
        assembly: The store.
        tenant: Whose.
        count: Most steps.

    Raises:
        BenchmarkError: The student was asked in none.
        StoreError: The store cannot be read.
    """
    traces = await assembly.traces.traces(tenant, limit=LOOKED_AT)
    asked = [one for one in traces if one.samples and one.prompt][:count]
    if not asked:
        raise BenchmarkError(
            f"store.url holds no step of tenant {tenant!r} in which the student was asked: serve "
            "or `tutelage replay` some first"
        )
    return [_request(one) for one in reversed(asked)]


def _request(trace: Trace) -> ChatRequest:
    usage = trace.usage.get("student")
    tokens = ceil(usage.output_tokens / len(trace.samples)) if usage else 0
    return ChatRequest(
        model="student",
        messages=[Message.model_validate(message) for message in trace.prompt],
        max_tokens=tokens or UNKNOWN_TOKENS,
    )


def student_servers(config: Config) -> MakeServer:
    """Makes vLLM servers of the configured student's weights.

    Raises:
        ConfigError: The student is an endpoint whose weights are not named.
        ModelError: The default checkpoint cannot be fetched.
    """
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import student_checkpoint
    from tutelage.runtime.models.vllm import VllmServer

    chosen = config.student
    if chosen.checkpoint is not None:
        folder = Path(chosen.checkpoint).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"student.checkpoint = {chosen.checkpoint!r}: there is no such folder"
            )
    elif chosen.base_url is not None:
        raise ConfigError(
            f"the weights behind student.base_url = {chosen.base_url!r} are not known here: set "
            "student.checkpoint to their folder, so that servers of them can be compared"
        )
    else:
        folder = student_checkpoint(cache_dir())
    length = 2 * config.prompt.max_prompt_tokens

    def made(speculation: Speculation | None) -> VllmServer:
        arguments = speculative_arguments(speculation)
        return VllmServer(folder, max_model_len=length, extra_arguments=arguments)

    return made
