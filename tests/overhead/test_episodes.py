from __future__ import annotations

import itertools

from tutelage.overhead.episodes import oracle_episodes, requests


def test_a_request_holds_the_transcript_up_to_its_step() -> None:
    episode = next(oracle_episodes("train:1", "t"))

    asked = list(requests(episode, "Act."))

    assert len(asked) == len(episode.turns)
    assert asked[0].messages[1].text.startswith(f"Task: {episode.goal}\n")
    for earlier, later in itertools.pairwise(asked):
        assert later.messages[: len(earlier.messages)] == earlier.messages


def test_the_same_split_gives_the_same_episodes() -> None:
    first, again = (list(oracle_episodes("test:6", "t")) for _ in range(2))

    assert first == again
    assert len({one.task_id for one in first}) == 6
