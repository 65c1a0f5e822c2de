"""What a vLLM server counts of its forwards and of the tokens that it guessed ahead."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from dataclasses import dataclass, fields

from tutelage.runtime.errors import ModelError

_SERIES = {
    "vllm:spec_decode_num_drafts_total": "drafts",
    "vllm:spec_decode_num_draft_tokens_total": "drafted_tokens",
    "vllm:spec_decode_num_accepted_tokens_total": "accepted_tokens",
    "vllm:generation_tokens_total": "generated_tokens",
    "vllm:iteration_tokens_total_count": "forwards",
}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class DraftCounters:
    """Counters since the start of a server; readings can be added and subtracted."""

    drafts: int = 0
    """Guesses, of one or more tokens."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    generated_tokens: int = 0
    forwards: int = 0
    """Passes of the model; those of a batch count once."""

    @property
    def acceptance(self) -> float | None:
        """Accepted over drafted tokens, in [0, 1]; ``None`` where nothing was guessed."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else None

    @property
    def tokens_a_forward(self) -> float | None:
        """Tokens of all sequences over forwards, the one of the prompt included."""
        return self.generated_tokens / self.forwards if self.forwards else None

    def __add__(self, other: DraftCounters) -> DraftCounters:
        return DraftCounters(*(getattr(self, n) + getattr(other, n) for n in _names()))

    def __sub__(self, earlier: DraftCounters) -> DraftCounters:
        return DraftCounters(*(getattr(self, n) - getattr(earlier, n) for n in _names()))


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(DraftCounters))


def parse_draft_counters(text: str) -> DraftCounters:
    """Reads the counters from a Prometheus page, summed over engines; absent ones are 0."""
    totals = dict.fromkeys(_names(), 0.0)
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        name = _SERIES.get(series.partition("{")[0])
        if name is not None:
            with contextlib.suppress(ValueError):
                totals[name] += float(value)
    return DraftCounters(**{name: int(total) for name, total in totals.items()})


async def read_draft_counters(base_url: str, timeout_s: float = 10.0) -> DraftCounters:
    """The counters of the server at ``base_url``, which may end in ``/v1``.

    Raises:
        ModelError: The server does not answer.
    """
    url = base_url.rstrip("/").removesuffix("/v1") + "/metrics"

    def page() -> str:
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return str(answer.read().decode())

    try:
        return parse_draft_counters(await asyncio.to_thread(page))
    except (OSError, urllib.error.URLError) as error:
        raise ModelError(f"{url} does not answer: {error}") from error
