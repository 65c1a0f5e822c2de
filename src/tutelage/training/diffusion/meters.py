"""Prometheus metrics of a diffusion student's server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tutelage.training.diffusion.decoding import Decoded

PREFIX = "tutelage_diffusion_"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """Counts in a registry of its own.

    Args:
        waiting: Reads how many samples wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}requests", "Requests by outcome.", ("outcome",), registry=self._registry
        )
        self._prompt_tokens = Counter(
            f"{PREFIX}prompt_tokens", "Tokens of prompts.", registry=self._registry
        )
        self._tokens = Counter(
            f"{PREFIX}generation_tokens", "Tokens before the end.", registry=self._registry
        )
        self._forwards = Counter(
            f"{PREFIX}forwards", "Forwards of all samples.", registry=self._registry
        )
        self._latency = Histogram(
            f"{PREFIX}request_seconds",
            "Seconds until an answer is complete.",
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._rows = Histogram(
            f"{PREFIX}batch_rows",
            "Samples in a batch.",
            buckets=_COUNT_BUCKETS,
            registry=self._registry,
        )
        self._passes = Counter(
            f"{PREFIX}passes", "Passes of the model, at least.", registry=self._registry
        )
        gauge = Gauge(f"{PREFIX}waiting", "Samples that wait.", registry=self._registry)
        gauge.set_function(lambda: float(waiting()))

    def batch(self, rows: int, passes: int) -> None:
        """A batch was decoded."""
        self._rows.observe(rows)
        self._passes.inc(passes)

    def answered(self, prompt_tokens: int, answers: Sequence[Decoded], seconds: float) -> None:
        """A request was answered."""
        self._requests.labels("ok").inc()
        self._prompt_tokens.inc(prompt_tokens)
        self._tokens.inc(sum(len(answer.tokens) for answer in answers))
        self._forwards.inc(sum(answer.forwards for answer in answers))
        self._latency.observe(seconds)

    def failed(self, status: int) -> None:
        """A request was not answered."""
        self._requests.labels("refused" if status < 500 else "error").inc()

    def render(self) -> tuple[bytes, str]:
        """The page, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
