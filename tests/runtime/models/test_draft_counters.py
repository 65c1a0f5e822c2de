from __future__ import annotations

import pytest

from tutelage.runtime.errors import ModelError
from tutelage.runtime.models.draft_counters import (
    DraftCounters,
    parse_draft_counters,
    read_draft_counters,
)

PAGE = """# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="student"} 10.0
vllm:spec_decode_num_drafts_created{engine="0",model_name="student"} 1.7e+09
vllm:spec_decode_num_draft_tokens_total{engine="0"} 40.0
vllm:spec_decode_num_accepted_tokens_total{engine="0"} 24.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 9.0
vllm:generation_tokens_total{engine="0"} 50.0
vllm:generation_tokens_total{engine="1"} 4.0
vllm:iteration_tokens_total_count{engine="0"} 27.0
vllm:iteration_tokens_total_sum{engine="0"} 4711.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} torn
"""


def test_the_counters_of_a_page_are_summed_over_engines() -> None:
    found = parse_draft_counters(PAGE)

    assert found == DraftCounters(10, 40, 24, 54, 27)
    assert found.acceptance == pytest.approx(0.6)
    assert found.tokens_a_forward == pytest.approx(2.0)


def test_a_server_that_guesses_nothing_has_no_acceptance() -> None:
    found = parse_draft_counters("vllm:generation_tokens_total 5.0\n")

    assert (found.acceptance, found.tokens_a_forward) == (None, None)


def test_readings_are_added_and_subtracted() -> None:
    one, two = DraftCounters(1, 2, 3, 4, 5), DraftCounters(10, 20, 30, 40, 50)

    assert two - one == DraftCounters(9, 18, 27, 36, 45)
    assert (two - one) + one == two


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/metrics does not answer"):
        await read_draft_counters("http://127.0.0.1:9/v1")
