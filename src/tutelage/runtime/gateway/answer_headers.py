"""Headers: what we tell of an answer, what of a client's goes upstream, and what comes back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from tutelage.runtime.deliberation import Deliberation
from tutelage.runtime.gateway.names import HEADER_PREFIX, HEADER_SCHEMA
from tutelage.runtime.models.transport import ANTHROPIC_VERSION
from tutelage.runtime.types import Decision, Mode, Trace
from tutelage.runtime.wires.protocol import WireName

FORWARDED: Final = frozenset({"anthropic-version", "anthropic-beta", "openai-beta", "traceparent"})
"""Headers of a client that an upstream sees."""
_FORWARDED_BYTES: Final = frozenset(name.encode() for name in FORWARDED)
RETURNED: Final = frozenset(
    {"retry-after", "retry-after-ms", "request-id", "x-request-id", "openai-processing-ms"}
)
"""Headers of an upstream that a client sees, beside those that begin as ``RETURNED_PREFIXES``."""
RETURNED_PREFIXES: Final = ("anthropic-ratelimit-", "x-ratelimit-")

_LONGEST_OWN: Final = 256
_LONGEST_PASSED: Final = 4096
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
# What RFC 9110 lets stand in a value, without the obsolete bytes above ASCII.
_VALUE = re.compile(r"[\x20-\x7e\t]*", re.ASCII)
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Account:
    """What a client is told about one answer; ``None`` is not known yet, or does not apply.

    Before anything is decided, a stream can tell the id, mode, episode and policy; the decision
    adds who served and why; only the end knows costs and overhead.
    """

    decision_id: str
    """Of the decision and of its trace."""
    mode: Mode | None = None
    served: str | None = None
    """``student``, ``student@<version>``, or the name of the teacher's upstream."""
    reason: str | None = None
    detail: str | None = None
    """The parameter or the tool that the reason is about, where it is about one."""
    agreement: float | None = None
    """Share of the modal action among the samples, in [0, 1]."""
    samples: int | None = None
    demos: str | None = None
    """How many the student saw, as ``<count>`` or ``<count>@<version of the bank>``."""
    cost_usd: float | None = None
    """Student and teacher together, losing samples included."""
    cost_baseline_usd: float | None = None
    """What the teacher alone would have cost, uncached."""
    overhead_ms: float | None = None
    policy: str | None = None
    risk: float | None = None
    """Risk that the policy is certified not to exceed."""
    student: str | None = None
    """Name or version of the student that was asked or could have been."""
    episode_id: str | None = None


def account_of(
    known: Deliberation | Trace,
    *,
    policy: str | None = None,
    risk: float | None = None,
    student: str | None = None,
    teacher: str = "teacher",
    bank: str | None = None,
    overhead_s: float | None = None,
) -> Account:
    """What is known when a request was decided, or when it was traced.

    Args:
        known: The deliberation of an answer that begins, or the trace of one that has ended.
        policy: Name of the policy.
        risk: Risk that the policy is certified not to exceed.
        student: Name or version of the student where no release of it was chosen.
        teacher: Name of the upstream that serves where the student does not.
        bank: Version of the demonstrations.
        overhead_s: What we added, for an answer that has ended.
    """
    count = len(known.demonstrations)
    acting = known.student if isinstance(known, Trace) else known.release
    student = acting or student
    told = Account(
        decision_id=known.id,
        mode=known.mode,
        served=_served(known.decision, student, teacher),
        reason=known.decision.reason.value,
        detail=known.decision.detail,
        samples=len(known.samples),
        demos=f"{count}@{bank}" if bank and count else str(count),
        overhead_ms=None if overhead_s is None else overhead_s * 1000,
        policy=policy,
        risk=risk,
        student=student,
    )
    if isinstance(known, Trace):
        return replace(
            told,
            agreement=known.agreement,
            episode_id=known.episode_id,
            cost_usd=sum(known.cost_usd.values()),
            cost_baseline_usd=known.baseline_cost_usd,
        )
    return replace(
        told,
        agreement=known.agreement.share if known.agreement else None,
        episode_id=known.episode.id,
    )


def answer_headers(account: Account, *, without: Collection[str] = ()) -> list[tuple[bytes, bytes]]:
    """The ``x-tutelage-*`` headers of what is known, the version of their meaning first.

    Values are printable ASCII without line breaks and of bounded length, whatever a client sent.

    Args:
        account: What is known.
        without: Fields of it that are not told.
    """
    headers = [(f"{HEADER_PREFIX}schema".encode(), str(HEADER_SCHEMA).encode())]
    for field in fields(account):
        value = getattr(account, field.name)
        if value is not None and field.name not in without:
            name = HEADER_PREFIX + field.name.replace("_", "-")
            headers.append((name.encode(), _shown(field.name, value).encode("ascii")))
    return headers


def facts(account: Account) -> dict[str, Any]:
    """The object for the field ``tutelage`` of an answer's body: all that is known, as numbers."""
    told = {field.name: getattr(account, field.name) for field in fields(account)}
    return {
        "schema": HEADER_SCHEMA,
        **{name: value for name, value in told.items() if value is not None},
    }


def forwarded_headers(
    client: Iterable[tuple[bytes, bytes]], wire: WireName = "chat"
) -> dict[str, str]:
    """The headers of a client that go upstream: those of ``FORWARDED``, if well formed.

    Keys, cookies, hosts and all routing headers, ours and those of other gateways, are dropped.
    A header that is sent several times is joined by commas. The Messages API is refused without a
    version, so that a call of it gets one if its client names none.

    Args:
        client: As ASGI gives them, names in lower case.
        wire: The API of the call.
    """
    sent: dict[str, str] = {}
    for raw_name, raw_value in client:
        if raw_name not in _FORWARDED_BYTES and raw_name.lower() not in _FORWARDED_BYTES:
            continue
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1").strip()
        if not _is_passable(value):
            continue
        if name == "traceparent" and (name in sent or not _TRACEPARENT.fullmatch(value)):
            continue
        joined = f"{sent[name]}, {value}" if name in sent else value
        if len(joined) <= _LONGEST_PASSED:
            sent[name] = joined
    if wire == "messages":
        sent.setdefault("anthropic-version", ANTHROPIC_VERSION)
    return sent


def returned_headers(upstream: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of an upstream's answer that a client sees, names in lower case.

    Args:
        upstream: Of an answer or of a ``ModelError``.
    """
    headers: list[tuple[bytes, bytes]] = []
    for given, value in upstream.items():
        name = given.lower()
        is_wanted = name in RETURNED or name.startswith(RETURNED_PREFIXES)
        if is_wanted and _NAME.fullmatch(name) and _is_passable(value):
            headers.append((name.encode("ascii"), value.strip().encode("ascii")))
    return headers


def header_value(text: str) -> str:
    """A text as a header can carry it: printable ASCII on one line, at most 256 characters."""
    return _NOT_PRINTABLE.sub("_", text.strip())[:_LONGEST_OWN]


def _served(decision: Decision, student: str | None, teacher: str) -> str:
    if decision.served == "teacher":
        return teacher
    if not student:
        return "student"
    # A release is named with its version.
    return student if "@" in student else f"student@{student}"


def _shown(name: str, value: object) -> str:
    if not isinstance(value, float):
        return header_value(str(value))
    digits = {"overhead_ms": 3, "agreement": 4, "risk": 4}.get(name, 9)
    return f"{value:.{digits}f}"


def _is_passable(value: str) -> bool:
    return bool(value) and len(value) <= _LONGEST_PASSED and bool(_VALUE.fullmatch(value))
