from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.absence import absent

from tutelage.cascade.prompt_score import PromptScore, fit_prompt_score, held_out_probabilities
from tutelage.runtime.errors import ConfigError, MissingExtra

SCORE = PromptScore(np.array([2.0, -1.0]), 0.5)


def needs_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        absent("needs scikit-learn")


def steps(count: int, seed: int = 0) -> tuple[Any, list[bool], list[str]]:
    """Vectors, whether the student was right by their first number, and episodes of four steps."""
    random = np.random.default_rng(seed)
    queries = random.normal(size=(count, 8)).astype(np.float32)
    right = (queries[:, 0] + 0.3 * random.normal(size=count) > 0).tolist()
    return queries, right, [f"episode-{place // 4}" for place in range(count)]


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_probability_is_that_of_the_logistic_curve(first: float, second: float) -> None:
    expected = 1 / (1 + math.exp(-(2 * first - second + 0.5)))
    assert SCORE.probability(np.array([first, second])) == pytest.approx(expected)


@pytest.mark.parametrize(("size", "expected"), [(1e6, 1.0), (-1e6, 0.0)])
def test_nothing_overflows(size: float, expected: float) -> None:
    found = PromptScore(np.array([size]), 0.0).probability(np.array([1.0], dtype=np.float32))
    assert 0 <= found <= 1
    assert found == pytest.approx(expected)


def test_a_vector_of_another_embedder_is_a_fault_and_no_probability() -> None:
    with pytest.raises(ValueError, match="2"):
        SCORE.probability(np.ones(3))


def test_a_score_comes_back_from_json() -> None:
    found = PromptScore.from_json(json.loads(json.dumps(SCORE.to_json())))
    assert found.to_json() == SCORE.to_json()
    assert found.probability(np.array([0.1, 0.2])) == SCORE.probability(np.array([0.1, 0.2]))


def test_so_many_digits_of_a_fitted_score_are_kept_that_nothing_changes() -> None:
    random = np.random.default_rng(3)
    score = PromptScore(random.normal(size=768), 0.123456789)
    written = PromptScore.from_json(score.to_json())
    query = random.normal(size=768)
    query /= np.linalg.norm(query)
    assert written.probability(query) == pytest.approx(score.probability(query), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": None}, "weights = None is not a list"),
        ({"weights": [1.0, "x"]}, "weights holds 'x'"),
        ({"weights": [math.nan]}, "weights holds nan"),
        ({"intercept": None}, "intercept holds None"),
    ],
)
def test_a_damaged_score_is_one_clear_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PromptScore.from_json({**SCORE.to_json(), **changes})


def test_a_fitted_score_tells_right_from_wrong_where_the_vector_does() -> None:
    needs_sklearn()
    queries, right, _ = steps(400)
    score = fit_prompt_score(queries[:200], right[:200])
    assert score.weights.shape == (8,)
    told = [score.probability(query) > 0.5 for query in queries[200:]]
    assert np.mean(np.array(told) == np.array(right[200:])) > 0.85


def test_a_stronger_penalty_trusts_the_vector_less() -> None:
    needs_sklearn()
    queries, right, _ = steps(200)
    weak, strong = (fit_prompt_score(queries, right, penalty) for penalty in (0.1, 100.0))
    assert np.linalg.norm(strong.weights) < np.linalg.norm(weak.weights)


# Held out.


def test_a_held_out_probability_tells_right_from_wrong_on_the_whole() -> None:
    needs_sklearn()
    queries, right, episodes = steps(400)
    found = np.array(held_out_probabilities(queries, right, episodes))
    assert np.mean((found > 0.5) == np.array(right)) > 0.85


@pytest.mark.parametrize("episode", ["episode-0", "episode-7", "episode-24"])
def test_no_label_of_an_episode_moves_its_own_probabilities(episode: str) -> None:
    needs_sklearn()
    queries, right, episodes = steps(100)
    flipped = [
        not one if name == episode else one for one, name in zip(right, episodes, strict=True)
    ]
    before = held_out_probabilities(queries, right, episodes)
    after = held_out_probabilities(queries, flipped, episodes)
    own = [place for place, name in enumerate(episodes) if name == episode]
    others = [place for place, name in enumerate(episodes) if name != episode]
    assert [before[place] for place in own] == [after[place] for place in own]
    assert [before[place] for place in others] != [after[place] for place in others]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 11),
)
def test_where_nothing_can_be_fitted_no_label_tells_of_itself_either(
    labelled: list[tuple[str, bool]], place: int
) -> None:
    """All other episodes may be right, or wrong, or there are none."""
    needs_sklearn()
    place %= len(labelled)
    episodes = [name for name, _ in labelled]
    right = [one for _, one in labelled]
    flipped = [one != (at == place) for at, one in enumerate(right)]
    queries = np.eye(12, dtype=np.float32)[: len(labelled)]
    before = held_out_probabilities(queries, right, episodes)
    after = held_out_probabilities(queries, flipped, episodes)
    assert before[place] == after[place]
    assert all(0 < one < 1 for one in before)


def test_noise_is_not_trusted_on_the_steps_that_it_was_fitted_on() -> None:
    """With more numbers than steps a score knows its own steps by heart."""
    needs_sklearn()
    random = np.random.default_rng(5)
    queries = random.normal(size=(60, 200))
    right = (random.random(60) < 0.5).tolist()
    episodes = [f"e{place}" for place in range(60)]
    by_heart = fit_prompt_score(queries, right, 0.01)
    own = np.mean(
        [(by_heart.probability(q) > 0.5) == r for q, r in zip(queries, right, strict=True)]
    )
    held = np.array(held_out_probabilities(queries, right, episodes, 0.01)) > 0.5
    assert own == 1.0
    assert np.mean(held == np.array(right)) < 0.75


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[calibrate\]'"):
        fit_prompt_score(np.eye(2), [True, False])
