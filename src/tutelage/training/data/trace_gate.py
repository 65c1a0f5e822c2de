"""Which traces may be learnt from."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from tutelage.runtime.types import Trace
from tutelage.training.data.examples import ActionKey, is_disagreement
from tutelage.training.data.recorded import REFUSALS, RecordedEpisode, is_refusal
from tutelage.training.data.reject import Reject, RejectReason

_ODD = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_PLAIN = frozenset("\n\r\t\u200c\u200d")
"""Control characters of ordinary text: lines, tabs, joiners of scripts and of emoji."""


@dataclass(frozen=True, slots=True)
class TraceRules:
    """What a trace has to be like."""

    tenants: frozenset[str]
    """Whose traces are taken."""
    evaluation_tasks: frozenset[str] = frozenset()
    """Ids of the tasks that measure."""
    revoked_writers: frozenset[str] = frozenset()
    """Ids of the keys from whose episodes nothing may be learnt; the tenants' own."""
    refusals: tuple[str, ...] = REFUSALS
    max_odd_unicode: float = 0.05
    """Highest share of odd characters in observation and answer, each by itself."""
    unverified_corrections: bool = False
    """Whether what the teacher did or said in states that the student brought about is taken from
    episodes that did not succeed, too: there nothing shows that it was right."""


@dataclass(frozen=True, slots=True)
class TraceVerdicts:
    """What passed and what did not."""

    teachable: frozenset[str]
    """Ids of the traces whose teacher's answer may carry loss."""
    rejects: tuple[Reject, ...]
    """Sorted."""
    seen: int


class TraceGate:
    """Judges traces one by one, given their episode; the order of either does not matter.

    Args:
        rules: What a trace has to be like.
        key: Names the action of an answer; absent: any text names one.
    """

    def __init__(self, rules: TraceRules, key: ActionKey | None = None) -> None:
        self._rules = rules
        self._key = key

    def judge(self, episodes: Iterable[RecordedEpisode]) -> TraceVerdicts:
        """Judges every trace of the episodes."""
        passed: set[str] = set()
        rejects: list[Reject] = []
        for recorded in episodes:
            for id, reason in self._episode(recorded).items():
                if reason is None:
                    passed.add(id)
                else:
                    rejects.append(Reject(id, reason))
        return TraceVerdicts(frozenset(passed), tuple(sorted(rejects)), len(passed) + len(rejects))

    def _episode(self, recorded: RecordedEpisode) -> dict[str, RejectReason | None]:
        is_forbidden = any(trace.no_train for trace in recorded.traces)
        latest = {trace.id for trace in recorded.latest().values()}
        steps = recorded.steps()
        mended = _mended(steps)
        following = {trace.id: later.observation for trace, later in pairwise(steps)}
        return {
            trace.id: self._owner(recorded, trace, is_forbidden)
            or self._outcome(recorded, trace, mended)
            or self._place(trace, latest, bool(steps))
            or self._answer(recorded, trace, following.get(trace.id, ""))
            for trace in recorded.traces
        }

    def _owner(
        self, recorded: RecordedEpisode, trace: Trace, is_forbidden: bool
    ) -> RejectReason | None:
        episode = recorded.episode
        if trace.tenant not in self._rules.tenants or trace.tenant != episode.tenant:
            return RejectReason.TENANT
        if is_forbidden:
            return RejectReason.NO_TRAIN
        if is_revoked(recorded, self._rules.revoked_writers):
            return RejectReason.REVOKED_WRITER
        if episode.task_id in self._rules.evaluation_tasks:
            return RejectReason.EVALUATION_TASK
        return None

    def _outcome(
        self, recorded: RecordedEpisode, trace: Trace, mended: Collection[str]
    ) -> RejectReason | None:
        if recorded.episode.success:
            return None
        if self._rules.unverified_corrections and trace.id in mended:
            return None
        return RejectReason.NOT_SUCCESSFUL

    def _place(
        self, trace: Trace, latest: Collection[str], is_complete: bool
    ) -> RejectReason | None:
        if not trace.finished:
            return RejectReason.UNFINISHED
        if trace.id not in latest:
            return RejectReason.SUPERSEDED
        if not is_complete:
            return RejectReason.INCOMPLETE
        return RejectReason.UNKNOWN_TOOLS if trace.tools_sha256 and not trace.tools else None

    def _answer(
        self, recorded: RecordedEpisode, trace: Trace, following: str
    ) -> RejectReason | None:
        audit = recorded.audits.get(trace.id)
        is_student = trace.decision.served == "student"
        if is_student and not is_disagreement(audit):
            return RejectReason.STUDENT_TEXT
        answer = trace.answer
        if is_student and audit is not None:
            answer = audit.action or ""
        if not answer.strip() or (self._key is not None and self._key(answer) is None):
            return RejectReason.EMPTY_ACTION
        odd = max(odd_unicode_share(answer), odd_unicode_share(trace.observation))
        if odd > self._rules.max_odd_unicode:
            return RejectReason.ODD_UNICODE
        # What was refused of an audited step is the student's action.
        if not is_student and is_refusal(following, self._rules.refusals):
            return RejectReason.REFUSED_ACTION
        return None


def is_revoked(recorded: RecordedEpisode, writers: Collection[str]) -> bool:
    """Whether a step of an episode came with one of these keys."""
    return any(trace.key_id is not None and trace.key_id in writers for trace in recorded.traces)


def odd_unicode_share(text: str) -> float:
    """Share of characters that are control, format, private, unassigned or U+FFFD."""
    if not text or (text.isascii() and text.isprintable()):
        return 0.0
    odd = sum(
        character == "\ufffd" or (unicodedata.category(character) in _ODD)
        for character in text
        if character not in _PLAIN
    )
    return odd / len(text)


def _mended(steps: Iterable[Trace]) -> frozenset[str]:
    """Ids of the student's steps and of those after one."""
    found: set[str] = set()
    has_acted = False
    for trace in steps:
        has_acted = has_acted or trace.decision.served == "student"
        if has_acted:
            found.add(trace.id)
    return frozenset(found)
