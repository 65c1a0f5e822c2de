from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.training.diffusion.chat import word_tokens
from tutelage.training.diffusion.language import (
    ACTIONS,
    BARE_SLOTS,
    LANGUAGES,
    REASONED,
    Language,
    bare_action,
    drawn_scene,
)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.name)
@settings(deadline=None)
@given(seed=st.integers(0, 100_000))
def test_answers_are_right_fit_and_have_known_words(language: Language, seed: int) -> None:
    chance = random.Random(seed)
    scene = drawn_scene(chance)
    answer = language.answer(scene, chance)
    chat = word_tokens(language.vocabulary())

    assert language.is_right(scene, answer)
    assert len(chat.encode(answer)) < language.slots
    assert chat.decode(chat.encode(answer)) == answer
    assert chat.decode(chat.encode(scene.text())) == scene.text()


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.name)
def test_the_answer_of_another_scene_is_mostly_wrong(language: Language) -> None:
    chance = random.Random(5)
    scenes = [drawn_scene(chance) for _ in range(200)]
    answers = [language.answer(scene, chance) for scene in scenes]
    crossed = [
        language.is_right(scene, answer) for scene, answer in zip(scenes[1:], answers, strict=False)
    ]
    assert sum(crossed) < 20


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.name)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_answer_with_a_word_too_many_is_wrong(language: Language, seed: int) -> None:
    chance = random.Random(seed)
    scene = drawn_scene(chance)
    answer = language.answer(scene, chance)

    assert not language.is_right(scene, answer + " mug")
    assert not language.is_right(scene, "mug " + answer)
    assert not language.is_right(scene, "")


def test_an_action_that_the_reason_does_not_speak_of_is_wrong() -> None:
    chance = random.Random(0)
    scene = next(s for s in iter(lambda: drawn_scene(chance), None) if len(s.actions()) > 1)
    first, second = scene.actions()
    place, other = first.split()[-1], second.split()[-1]
    reason = f"think : {place} comes before {other} , good . act :"

    assert REASONED.is_right(scene, f"{reason} {first}")
    assert not REASONED.is_right(scene, f"{reason} {second}")
    assert not REASONED.is_right(scene, f"think : {place} comes before {place} . act : {first}")
    assert not REASONED.is_right(
        scene, f"think : {place} comes before {scene.here} . act : {first}"
    )
    assert ACTIONS.is_right(scene, f"put {scene.wanted} in {scene.target} : {second}")


def test_reasoned_answers_vary_in_length_and_choice() -> None:
    chance = random.Random(1)
    scene = next(s for s in iter(lambda: drawn_scene(chance), None) if len(s.actions()) > 1)
    answers = [REASONED.answer(scene, chance) for _ in range(400)]

    assert len({len(answer.split()) for answer in answers}) >= 5
    assert {answer.split(" . act : ")[1] for answer in answers} == set(scene.actions())
    assert len(set(answers)) > 60


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_bare_action_is_right_and_fits_the_short_canvas(seed: int) -> None:
    chance = random.Random(seed)
    scene = drawn_scene(chance)
    action = bare_action(scene, chance)

    assert action in scene.actions()
    assert len(action.split()) < BARE_SLOTS
