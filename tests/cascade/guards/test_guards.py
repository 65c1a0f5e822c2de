from __future__ import annotations

import pytest

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.guards.composition import GUARDS, GuardOptions, guarded
from tutelage.cascade.guards.loop import LoopGuard
from tutelage.cascade.guards.rejection import RejectionGuard
from tutelage.cascade.guards.stall import StallGuard
from tutelage.cascade.paper import Paper
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import (
    Action,
    Agreement,
    Decision,
    Reason,
    SamplePlan,
    Served,
    Step,
    Turn,
)

FORM = TextCanonicalizer()
OPTIONS = GuardOptions(canonicalizer=FORM)
UNUSABLE = Agreement(votes=(), samples=3, chosen=None, agreed=False)


def agreed(key: str, kind: str = "text") -> Agreement:
    action = Action("tool" if kind == "tool" else "text", key)
    return Agreement(votes=((action, 3),), samples=3, chosen=0, agreed=True)


def after(*turns: tuple[str, str, Served | None], now: str) -> Step:
    history = tuple(Turn(*turn) for turn in turns)
    return Step("t", "e", len(history), "g", now, history)


def test_the_loop_guard_sends_a_repeated_action_to_the_teacher() -> None:
    guard = LoopGuard(Paper(), FORM)
    step = after(("A desk.", "Look.", "student"), now="a  desk.")
    assert guard.plan(step) == SamplePlan(3, 0.7)
    decision = guard.decide(step, agreed("look"), [])
    assert decision == Decision(served="teacher", reason=Reason.LOOP, score=1.0)


def test_the_loop_guard_lets_new_actions_and_new_observations_pass() -> None:
    guard = LoopGuard(Paper(), FORM)
    step = after(
        ("A desk.", "look", "student"), ("A bed.", "open drawer 1", "teacher"), now="A bed."
    )
    assert guard.decide(step, agreed("look"), []).served == "student"
    assert guard.decide(step, agreed("open drawer 1"), []).reason is Reason.LOOP


def test_the_loop_guard_compares_canonical_forms() -> None:
    guard = LoopGuard(Paper(), FORM)
    step = after(("o", "Action: put the mug 1 in/on desk 1", "student"), now="o")
    assert guard.decide(step, agreed("move mug 1 to desk 1"), []).reason is Reason.LOOP
    calls = '{"tool_calls":[{"name":"f","arguments":"{ }"}]}'
    step = after(("o", calls, "student"), now="o")
    call = FORM.past(calls)
    assert call is not None
    assert guard.decide(step, agreed(call.key, call.kind), []).reason is Reason.LOOP
    assert guard.decide(step, agreed(call.key, "text"), []).served == "student"


def test_the_loop_guard_has_no_say_without_a_usable_sample() -> None:
    step = after(("o", "", "student"), now="o")
    assert LoopGuard(AlwaysStudent(), FORM).decide(step, UNUSABLE, []).served == "student"
    assert LoopGuard(Paper(), FORM).decide(step, UNUSABLE, []).reason is Reason.UNUSABLE


@pytest.mark.parametrize("served", ["student", None])
def test_the_rejection_guard_asks_the_teacher_before_sampling(served: Served | None) -> None:
    guard = RejectionGuard(Paper())
    step = after(("o", "go to safe 2", served), now="  NOTHING\nhappens. ")
    assert guard.plan(step) == Decision(served="teacher", reason=Reason.REJECTED)
    assert guard.decide(step, agreed("look"), []).reason is Reason.REJECTED


def test_the_rejection_guard_ignores_the_teachers_refusals_and_first_steps() -> None:
    guard = RejectionGuard(Paper())
    for step in (
        after(("o", "go to safe 2", "teacher"), now="Nothing happens."),
        after(now="Nothing happens."),
        after(("Nothing happens.", "go to desk 1", "student"), now="A desk."),
    ):
        assert guard.plan(step) == SamplePlan(3, 0.7)
        assert guard.decide(step, agreed("look"), []).served == "student"


def test_the_refusals_are_the_callers() -> None:
    guard = RejectionGuard(Paper(), refusals=("unknown command",))
    assert isinstance(guard.plan(after(("o", "x", None), now="Unknown  Command: x")), Decision)
    assert isinstance(guard.plan(after(("o", "x", None), now="Nothing happens.")), SamplePlan)


def test_the_stall_guard_waits_for_a_full_window_without_news() -> None:
    guard = StallGuard(Paper(), window=3)
    known = [("a", "go b", None), ("b", "go a", None), ("A", "go b", None), ("b ", "go a", None)]
    fresh = [guard.plan(after(*known[:n], now=known[n][0])) for n in range(4)]
    assert all(isinstance(plan, SamplePlan) for plan in fresh)
    stalled = after(*known, now="a")
    assert guard.plan(stalled) == Decision(served="teacher", reason=Reason.STALL)
    assert guard.decide(stalled, agreed("look"), []).reason is Reason.STALL
    assert guard.plan(after(*known, now="c")) == SamplePlan(3, 0.7)
    assert guard.decide(after(*known, now="c"), agreed("look"), []).served == "student"


def test_no_guard_touches_a_decision_for_the_teacher() -> None:
    turns: list[tuple[str, str, Served | None]] = [("Nothing happens.", "look", "student")] * 8
    step = after(*turns, now="Nothing happens.")
    always = Decision(served="teacher", reason=Reason.ALWAYS)
    wrapped = guarded(AlwaysTeacher(), GUARDS, OPTIONS)
    assert wrapped.plan(step) == always
    assert wrapped.decide(step, agreed("look"), []) == always
    tossed = RandomMix(1.0)
    wrapped = guarded(tossed, GUARDS, OPTIONS)
    assert wrapped.plan(step) == tossed.plan(step)


def test_the_order_of_guards_is_fixed() -> None:
    turns: list[tuple[str, str, Served | None]] = [("Nothing happens.", "look", "student")] * 8
    step = after(*turns, now="Nothing happens.")
    for names in (["loop", "stall", "rejection"], ["rejection", "loop", "stall", "loop"]):
        wrapped = guarded(AlwaysStudent(), names, OPTIONS)
        assert wrapped.plan(step) == Decision(served="teacher", reason=Reason.REJECTED)
        assert wrapped.decide(step, agreed("look"), []).reason is Reason.LOOP
    wrapped = guarded(AlwaysStudent(), {"stall", "loop"}, OPTIONS)
    assert wrapped.plan(step) == Decision(served="teacher", reason=Reason.STALL)


def test_no_guards_are_the_policy_itself() -> None:
    policy = Paper()
    assert guarded(policy, (), OPTIONS) is policy


def test_guards_take_their_options() -> None:
    options = GuardOptions(FORM, refusals=("no way",), stall_window=1)
    wrapped = guarded(Paper(), ["rejection"], options)
    assert isinstance(wrapped.plan(after(("o", "x", None), now="No way!")), Decision)
    wrapped = guarded(Paper(), ["stall"], options)
    assert isinstance(wrapped.plan(after(("o", "x", None), now="o")), Decision)


def test_wrong_settings_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="did you mean 'loop'"):
        guarded(Paper(), ["loops"], OPTIONS)
    with pytest.raises(ConfigError, match="choose from loop, rejection, stall"):
        guarded(Paper(), ["xyz"], OPTIONS)
    with pytest.raises(ConfigError, match="empty marker"):
        RejectionGuard(Paper(), refusals=["nothing", " "])
    with pytest.raises(ConfigError, match="window = 0"):
        StallGuard(Paper(), window=0)


def reasons(policy: DeferralPolicy) -> list[Reason]:
    """Deciding twice gives the same; the reasons of both ways to ask, for one step."""
    step = after(("o", "look", "student"), now="o")
    return [policy.decide(step, agreed("look"), []).reason for _ in range(2)]


def test_guarded_decisions_are_pure() -> None:
    policy = guarded(Paper(), GUARDS, OPTIONS)
    assert reasons(policy) == [Reason.LOOP, Reason.LOOP]
