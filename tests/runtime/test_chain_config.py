from __future__ import annotations

from typing import Any

import pytest

from tutelage.runtime.chain_config import check_chain
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError


def given(**changes: Any) -> Config:
    values = {"upstreams.mid.base_url": "http://x/v1", "upstreams.mid.model": "mid"}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return load_config(environment={}, overrides=values)


def test_tiers_that_are_upstreams_make_a_chain() -> None:
    check_chain(given(chain__tiers=["mid"]))
    check_chain(given())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"chain__tiers": ["big"]}, "'big' is no upstream; there are mid"),
        ({"chain__tiers": ["mid", "mid"]}, "names 'mid' twice"),
        ({"chain__gate": "gate.json"}, "chain.gate = 'gate.json' has no tiers to choose"),
        ({"chain__tiers": ["mid"], "cascade__draw": "sequential"}, "needs all samples of a tier"),
        ({"chain__tiers": ["mid"], "cascade__greedy_first": True}, "needs all samples of a tier"),
    ],
)
def test_a_chain_that_cannot_be_made_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_chain(given(**changes))


def test_one_sample_is_no_vote() -> None:
    with pytest.raises(ConfigError, match=r"chain\.samples = 1"):
        given(chain__samples=1)
