from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tutelage.overhead.embedding import measure_embedding
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.figure import Figure, spent
from tutelage.overhead.steps import measure_steps


async def test_every_hop_of_a_step_is_timed(tmp_path: Path) -> None:
    figures = await measure_steps(
        tmp_path, demonstrations=70, steps=10, count_tokens=lambda text: len(text.split())
    )
    values = {figure.name: figure.value for figure in figures}
    assert set(values) == {"retrieve", "render", "agree", "trace", "total"}
    hops = [value for name, value in values.items() if name != "total" and value is not None]
    assert all(value > 0 for value in hops)
    assert values["total"] == pytest.approx(sum(hops))
    assert "10 steps" in figures[-1].note


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_both_embedders_are_timed_on_the_same_texts_and_agree() -> None:
    values = {figure.name: figure.value for figure in measure_embedding(1)}
    assert {"onnx single", "onnx batched", "torch single", "torch batched"} <= set(values)
    cosine = values["cosine, mean"]
    assert cosine is not None
    assert cosine >= 0.999


def test_a_request_holds_the_transcript_up_to_its_step() -> None:
    episode = next(oracle_episodes("train:1", "t"))
    asked = list(requests(episode, "Act."))
    assert len(asked) == len(episode.turns)
    assert asked[0].messages[1].text.startswith(f"Task: {episode.goal}\n")
    for earlier, later in itertools.pairwise(asked):
        assert later.messages[: len(earlier.messages)] == earlier.messages


def test_a_figure_that_was_not_measured_says_so() -> None:
    assert Figure("p", "n", None, "ms", "skipped").text == "-"
    assert Figure("p", "n", 1234.5, "ms").text == "1.23e+03 ms"
    wall_s, cpu_s = spent(lambda: sum(range(1000)))
    assert wall_s > 0
    assert cpu_s >= 0
