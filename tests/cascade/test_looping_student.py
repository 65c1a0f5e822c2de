"""A student that agrees with itself for ever, in a world small enough to read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.deferral import policy_named
from tutelage.cascade.guards.composition import GUARDS, GuardOptions, guarded
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import ChatRequest, Decision, Message, Reason, Step, Turn

FORM = TextCanonicalizer()
LIMIT = 20


class Corridor:
    """Rooms 0 to 3 in a row; one leaves by the door of room 3."""

    def __init__(self) -> None:
        self.room = 0
        self.done = False

    def act(self, command: str) -> str:
        moves = {"go left": -1, "go right": 1}
        if command == "open door 1" and self.room == 3:
            self.done = True
            return "You are out."
        if command in moves and 0 <= self.room + moves[command] <= 3:
            self.room += moves[command]
        elif command != "look":
            return "Nothing happens."
        return f"You are in room {self.room}."

    def oracle(self) -> str:
        return "open door 1" if self.room == 3 else "go right"


@dataclass
class Episode:
    turns: list[Turn]
    reasons: list[Reason]
    samples: int
    solved: bool

    @property
    def teacher_steps(self) -> int:
        return sum(turn.served == "teacher" for turn in self.turns)


async def play(student: ScriptedModel, policy: DeferralPolicy) -> Episode:
    world, rule = Corridor(), Unanimous(FORM)
    episode = Episode([], [], 0, False)
    observation = world.act("look")
    while not world.done and len(episode.turns) < LIMIT:
        turns = tuple(episode.turns)
        step = Step("t", "e", len(turns), "Leave the corridor.", observation, turns)
        decision = policy.plan(step)
        action = ""
        if not isinstance(decision, Decision):
            messages = [Message(role="user", content=observation)]
            request = ChatRequest(model="student", messages=messages)
            completion = await student.complete(request, decision.samples)
            episode.samples += decision.samples
            agreement = rule.measure(completion.choices)
            decision = policy.decide(step, agreement, [])
            action = rule.action(completion.choices[agreement.chosen or 0]) or ""
        if decision.served == "teacher":
            action = world.oracle()
        episode.turns.append(Turn(observation, action, decision.served))
        episode.reasons.append(decision.reason)
        observation = world.act(action)
    episode.solved = world.done
    return episode


def gazing() -> ScriptedModel:
    return ScriptedModel("look")


def guessing() -> ScriptedModel:
    numbers = iter(range(1, 1000))
    return ScriptedModel([f"open door {number + 1}"] * 3 for number in numbers)


def pacing() -> ScriptedModel:
    def between_two_rooms(request: ChatRequest) -> str:
        return "go right" if request.messages[-1].text == "You are in room 0." else "go left"

    return ScriptedModel(between_two_rooms)


@pytest.mark.parametrize("student", [gazing, guessing, pacing])
async def test_agreement_alone_never_sends_a_looping_student_to_the_teacher(
    student: Callable[[], ScriptedModel],
) -> None:
    episode = await play(student(), policy_named("paper"))
    assert episode.teacher_steps == 0
    assert set(episode.reasons) == {Reason.AGREED}
    assert not episode.solved


@pytest.mark.parametrize(
    ("student", "guard", "reason"),
    [
        (gazing, "loop", Reason.LOOP),
        (pacing, "loop", Reason.LOOP),
        (guessing, "rejection", Reason.REJECTED),
        (gazing, "stall", Reason.STALL),
        (guessing, "stall", Reason.STALL),
        (pacing, "stall", Reason.STALL),
    ],
)
async def test_a_looping_student_is_sent_to_the_teacher(
    student: Callable[[], ScriptedModel], guard: str, reason: Reason
) -> None:
    options = GuardOptions(FORM, stall_window=4)
    episode = await play(student(), guarded(policy_named("paper"), [guard], options))
    assert episode.teacher_steps > 0
    assert set(episode.reasons) == {Reason.AGREED, reason}


@pytest.mark.parametrize("student", [gazing, guessing, pacing])
async def test_all_guards_together_get_a_looping_student_out(
    student: Callable[[], ScriptedModel],
) -> None:
    options = GuardOptions(FORM, stall_window=4)
    episode = await play(student(), guarded(policy_named("paper"), GUARDS, options))
    assert episode.solved
    assert episode.teacher_steps < len(episode.turns)


@pytest.mark.parametrize("guard", ["rejection", "stall"])
async def test_a_guard_before_sampling_saves_the_samples(guard: str) -> None:
    policy: Collection[str] = [guard]
    options = GuardOptions(FORM, stall_window=4)
    episode = await play(guessing(), guarded(policy_named("paper"), policy, options))
    assert episode.samples == 3 * (len(episode.turns) - episode.teacher_steps)
