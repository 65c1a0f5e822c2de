"""Traces and outcomes as those who observe the gateway get them."""

from __future__ import annotations

from typing import Any

from tutelage.runtime.gateway.outcome import Outcome
from tutelage.runtime.types import Decision, Reason, Sample, Trace, Usage


def make_trace(**fields: Any) -> Trace:
    """A step that the student served, its three samples being of one mind."""
    told: dict[str, Any] = {
        "id": "decision-1",
        "tenant": "acme",
        "episode_id": "episode-1",
        "step_index": 2,
        "created_at_s": 1_700_000_002.0,
        "model": "agent",
        "goal": "tidy",
        "observation": "A room.",
        "answer": "go to desk 1",
        "decision": Decision(served="student", reason=Reason.AGREED, score=1.0),
        "samples": tuple(Sample(text="go to desk 1", action="go to desk 1") for _ in range(3)),
        "agreement": 1.0,
        "demonstrations": ("t1:0", "t2:3"),
        "prompt": ({"role": "user", "content": "A room."},),
        "usage": {"student": Usage(input_tokens=90, cache_read_tokens=10, output_tokens=30)},
        "cost_usd": {"student": 0.000125},
        "uncached_cost_usd": {"student": 0.00015},
        "baseline_cost_usd": 0.004,
        "latency_s": {
            "retrieve": 0.01,
            "render": 0.002,
            "student": 0.2,
            "agree": 0.001,
            "total": 0.22,
        },
    }
    return Trace(**{**told, **fields})


DEFERRED = make_trace(
    decision=Decision(served="teacher", reason=Reason.DISAGREED, score=0.4),
    agreement=0.4,
    usage={
        "student": Usage(input_tokens=100, output_tokens=30),
        "teacher": Usage(input_tokens=40, cache_write_tokens=10, output_tokens=11),
    },
    cost_usd={"student": 0.001, "teacher": 0.02},
    baseline_cost_usd=0.03,
    latency_s={
        "retrieve": 0.01,
        "render": 0.002,
        "student": 0.2,
        "agree": 0.001,
        "teacher": 0.5,
        "total": 0.72,
    },
)
"""A step that the student's samples disagreed on, so that the teacher served it."""


def make_outcome(**fields: Any) -> Outcome:
    """A request to the chat route that ended well after 0.75 s, of which 0.7 s upstream."""
    told: dict[str, Any] = {
        "route": "chat",
        "end": "ok",
        "status": 200,
        "started_at_s": 1_700_000_000.0,
        "duration_s": 0.75,
        "mode": "cascade",
        "alias": "agent",
        "upstream_s": 0.7,
        "tenant": "acme",
        "key_id": "key-7",
    }
    return Outcome(**{**told, **fields})
