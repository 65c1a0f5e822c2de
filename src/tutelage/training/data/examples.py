"""Recorded episodes to training examples in the format in which the student serves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.runtime.errors import ContextTooLong
from tutelage.runtime.prompt import CountTokens, PromptSettings, render
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import ChatRequest, Message, StepAudit, Trace
from tutelage.training.data.example import Origin, Task, TrainingExample
from tutelage.training.data.reasoned import Tags, read_reason
from tutelage.training.data.recorded import REFUSALS, RecordedEpisode, is_refusal
from tutelage.training.data.transcript import Transcript, spoken, transcript

Shape = Literal["trajectories", "steps"]
"""Whole episodes as one chat, for a student that is shown all history; one chat a step, as the
student's prompt is rendered."""
ActionKey = Callable[[str], str | None]
"""An answer's text to the canonical key of the action that it names; ``None`` if it names none."""


@dataclass(frozen=True, slots=True)
class ExampleSettings:
    """How examples are made."""

    shape: Shape = "steps"
    prompt: PromptSettings = field(default_factory=PromptSettings)
    """The layout in which the student serves; ``steps`` only."""
    demonstrated: bool = False
    """Whether a step whose prompt showed demonstrations also gives an example with them."""
    tasks: tuple[Task, ...] = ("act",)
    """Rows of a step whose answer holds a reason; any other gives ``act`` alone. A whole
    trajectory shows answers as they are."""
    tags: Tags = field(default_factory=Tags)
    refusals: tuple[str, ...] = REFUSALS
    """Openings of an observation that says that the last action was refused."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One answer of the teacher, and where in its episode it stands."""

    step: int
    answer: str
    """Text, or tool calls as JSON."""
    origin: Origin
    trace_id: str
    action: str
    """Canonical key; the answer where none is known."""


def lessons(
    recorded: RecordedEpisode,
    teachable: Collection[str],
    refusals: Sequence[str] = REFUSALS,
    key: ActionKey | None = None,
) -> tuple[Lesson, ...]:
    """What the teacher did or said, in the order of the steps.

    A step that the student served gives the teacher's action of an audit that disagrees with it.
    A step of the teacher right after an error of the student is ``recovery``; at any later state of
    an episode in which the student has acted it is ``correction``, as in DAgger (Ross et al. 2011).
    The student erred where its action was refused or an audit disagrees.

    Args:
        recorded: The episode.
        teachable: Ids of the traces that passed the gate.
        refusals: Openings of an observation that says that the last action was refused.
        key: Names the action of an answer that was compared with no sample; absent: its text does.
    """
    found: list[Lesson] = []
    steps = recorded.steps()
    has_acted = erred = False
    for index, trace in enumerate(steps):
        audit = recorded.audits.get(trace.id)
        if trace.decision.served == "teacher":
            if trace.id in teachable:
                origin: Origin = "teacher"
                if has_acted:
                    origin = "recovery" if erred else "correction"
                answer = trace.answer.strip()
                action = trace.action or (key(answer) if key is not None else None)
                found.append(Lesson(index, answer, origin, trace.id, action or answer))
            erred = False
            continue
        has_acted = True
        refused = index + 1 < len(steps) and is_refusal(steps[index + 1].observation, refusals)
        erred = refused or is_disagreement(audit)
        if is_disagreement(audit) and trace.id in teachable:
            assert audit is not None
            assert audit.action is not None
            found.append(Lesson(index, audit.action, "correction", trace.id, audit.action))
    return tuple(found)


def is_disagreement(audit: StepAudit | None) -> bool:
    """Whether the teacher named another action than the one that the student took."""
    return audit is not None and audit.agrees is False and bool((audit.action or "").strip())


def examples_of(
    recorded: RecordedEpisode,
    teachable: Collection[str],
    settings: ExampleSettings,
    count_tokens: CountTokens,
    key: ActionKey | None = None,
) -> tuple[TrainingExample, ...]:
    """The examples of one episode; none if a step of it is missing.

    Turns of the student, and answers that did not pass the gate, stand in the chats and carry no
    loss. A step that does not fit into the prompt's budget even without demonstrations gives
    nothing: the student is never asked there.

    Args:
        recorded: The episode.
        teachable: Ids of the traces that passed the gate.
        settings: Shape, prompt and tasks.
        count_tokens: Tokens of a text, as the student counts them.
        key: As for ``lessons``.
    """
    taught = lessons(recorded, teachable, settings.refusals, key)
    if not taught:
        return ()
    steps = recorded.steps()
    chat = transcript(steps)
    if settings.shape == "trajectories":
        return _trajectories(recorded, chat, taught)
    made: list[TrainingExample] = []
    for lesson in taught:
        trace = steps[lesson.step]
        prompts = [("", _prompt(recorded, trace, chat.until(lesson.step), settings, count_tokens))]
        if settings.demonstrated and trace.demonstrations:
            shown = tuple(Message.model_validate(message) for message in trace.prompt)
            prompts.append((":demonstrated", shown))
        for suffix, prompt in prompts:
            if prompt:
                made += _rows(recorded, lesson, prompt, suffix, settings)
    return tuple(made)


def _trajectories(
    recorded: RecordedEpisode, chat: Transcript, taught: Sequence[Lesson]
) -> tuple[TrainingExample, ...]:
    """The whole chat; and one that ends with the teacher's word for each audited step."""
    steps = recorded.steps()
    served = [lesson for lesson in taught if steps[lesson.step].decision.served == "teacher"]
    made = []
    # A template shows tools once: turns at which others were offered are in a chat of their own.
    offered = list(dict.fromkeys(steps[lesson.step].tools_sha256 for lesson in served))
    for number, digest in enumerate(offered):
        own = [lesson for lesson in served if steps[lesson.step].tools_sha256 == digest]
        turns = tuple(chat.answers[lesson.step] for lesson in own)
        mixed = [lesson.origin for lesson in own if lesson.origin != "teacher"]
        # Named after the rarest kind that it holds.
        origin: Origin = "recovery" if "recovery" in mixed else "correction" if mixed else "teacher"
        made.append(
            _example(
                recorded,
                id=f"{recorded.episode.id}:tools{number}" if number else recorded.episode.id,
                messages=chat.messages[: turns[-1] + 1],
                supervised=turns,
                taught=own,
                origin=origin,
                task="react" if any(read_reason(chat.messages[i].text) for i in turns) else "act",
            )
        )
    for lesson in taught:
        if lesson not in served:
            made.append(corrected(recorded, chat, lesson))
    return tuple(made)


def corrected(recorded: RecordedEpisode, chat: Transcript, lesson: Lesson) -> TrainingExample:
    """The chat until a step, ended by what the teacher would have done there."""
    before = chat.until(lesson.step)
    return _example(
        recorded,
        id=f"{recorded.episode.id}:{lesson.step}",
        messages=(*before, spoken(lesson.answer, lesson.step)),
        supervised=(len(before),),
        taught=[lesson],
        origin=lesson.origin,
    )


def _prompt(
    recorded: RecordedEpisode,
    trace: Trace,
    sent: tuple[Message, ...],
    settings: ExampleSettings,
    count_tokens: CountTokens,
) -> tuple[Message, ...]:
    """The prompt that the student gets at a step without demonstrations."""
    tools = [dict(tool) for tool in trace.tools] or None
    request = ChatRequest(model=trace.model, messages=list(sent), tools=tools)
    step = read_step(request, tenant=trace.tenant, episode_id=recorded.episode.id, goal=trace.goal)
    try:
        rendered = render(request, step, (), settings.prompt, count_tokens)
    except ContextTooLong:
        return ()
    return tuple(rendered.request.messages)


def _rows(
    recorded: RecordedEpisode,
    lesson: Lesson,
    prompt: tuple[Message, ...],
    suffix: str,
    settings: ExampleSettings,
) -> list[TrainingExample]:
    parts = read_reason(lesson.answer)
    answers: Mapping[Task, str] = {"act": lesson.answer}
    tasks: tuple[Task, ...] = ("act",)
    if parts is not None:
        answers = {"act": parts.action, "why": parts.reason, "react": lesson.answer}
        tasks = settings.tasks
    tags: Mapping[Task, str] = {
        "act": settings.tags.act,
        "why": settings.tags.why,
        "react": settings.tags.react,
    }
    made = []
    for task in tasks:
        id = f"{recorded.episode.id}:{lesson.step}{suffix}"
        made.append(
            _example(
                recorded,
                id=id if task == "act" else f"{id}:{task}",
                messages=(*_tagged(prompt, tags[task]), spoken(answers[task], lesson.step)),
                supervised=(len(prompt),),
                taught=[lesson],
                origin=lesson.origin,
                task=task,
            )
        )
    return made


def _tagged(prompt: tuple[Message, ...], tag: str) -> tuple[Message, ...]:
    """The tag at the very end, so that the prefix of the prompt stays as it is."""
    if not tag:
        return prompt
    last = prompt[-1]
    return (*prompt[:-1], last.model_copy(update={"content": f"{last.text}\n{tag}"}))


def _example(
    recorded: RecordedEpisode,
    *,
    id: str,
    messages: Sequence[Message],
    supervised: tuple[int, ...],
    taught: Sequence[Lesson],
    origin: Origin,
    task: Task = "act",
) -> TrainingExample:
    return TrainingExample(
        id=id,
        tenant=recorded.episode.tenant,
        episode_id=recorded.episode.id,
        messages=tuple(_plain(message) for message in messages),
        tools=recorded.steps()[taught[0].step].tools,
        supervised=supervised,
        origin=origin,
        task=task,
        family=recorded.family,
        task_id=recorded.episode.task_id,
        goal=recorded.episode.goal or recorded.steps()[0].goal,
        actions=tuple(lesson.action for lesson in taught),
        trace_ids=tuple(lesson.trace_id for lesson in taught),
    )


def _plain(message: Message) -> dict[str, Any]:
    return message.model_dump(exclude_unset=True)
