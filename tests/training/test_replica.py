from __future__ import annotations

import pytest
from tests.made_releases import PROBE, Clock
from tests.training.fake_replica import FakeReplica

from tutelage.runtime.errors import BadResponse, ModelError, Refused, TrainingError
from tutelage.training.replica import Replica, answers_on_all


async def test_an_adapter_is_loaded_once_and_unloaded_once() -> None:
    async with FakeReplica() as server, Replica(server.base_url) as replica:
        for _ in range(2):
            await replica.load_adapter("student@7", "/releases/7")
        assert await replica.models() == {"student", "student@7"}
        assert server.loaded == ["student@7"]
        for _ in range(2):
            await replica.unload_adapter("student@7")
        assert await replica.models() == {"student"}
        assert [path for path, _ in server.calls].count("/v1/unload_lora_adapter") == 1
        assert server.base_url in repr(replica)


async def test_a_server_that_loads_no_adapters_says_how_to_start_it() -> None:
    async with FakeReplica(loads=False) as server, Replica(server.base_url) as replica:
        with pytest.raises(TrainingError, match="--enable-lora"):
            await replica.load_adapter("student@7", "/releases/7")


async def test_a_damaged_adapter_is_refused() -> None:
    async with FakeReplica() as server, Replica(server.base_url) as replica:
        with pytest.raises(Refused):
            await replica.load_adapter("student@7", "/releases/damaged")


async def test_the_probe_is_scored_after_its_prompt() -> None:
    async with FakeReplica({"student": -1.5}) as server, Replica(server.base_url) as replica:
        assert await replica.logprob("student", PROBE) == pytest.approx(-3.0)
        assert server.calls[0][1]["prompt"] == [1, 2, 3, 4]


@pytest.mark.parametrize("told", [[None], [None, None, None, None], "no", [None, {}, {}, {}]])
async def test_a_server_that_tells_no_logprobs_is_named(told: object) -> None:
    async with FakeReplica() as server, Replica(server.base_url) as replica:
        server.told = told
        with pytest.raises(BadResponse, match="is it vLLM"):
            await replica.logprob("student", PROBE)


async def test_a_server_sleeps_and_wakes_where_it_can() -> None:
    async with FakeReplica(sleeps=True) as server, Replica(server.base_url) as replica:
        assert await replica.sleep()
        assert await replica.wake()
        assert [path for path, _ in server.calls] == ["/sleep?level=1", "/wake_up"]
    async with FakeReplica() as server, Replica(server.base_url) as replica:
        assert not await replica.sleep()
        assert not await replica.wake()


async def test_all_replicas_are_waited_for() -> None:
    clock = Clock()
    async with FakeReplica() as one, FakeReplica() as other:
        one.names.append("student@7")

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            if clock.now_s > 1003:
                other.names.append("student@7")

        async with Replica(one.base_url) as first, Replica(other.base_url) as second:
            both = [first, second]
            await answers_on_all(both, "student@7", wait_s=10, sleep=sleep, timer=clock)
            assert 1003 < clock.now_s < 1005
            with pytest.raises(TrainingError, match=r"student@8 after 10 s: it serves student"):
                await answers_on_all(both, "student@8", wait_s=10, sleep=clock.sleep, timer=clock)


async def test_a_replica_that_is_down_is_named_when_the_wait_is_over() -> None:
    clock = Clock()
    async with FakeReplica() as server:
        address = server.base_url
    async with Replica(address) as replica:
        with pytest.raises(ModelError):
            await replica.models()
        with pytest.raises(TrainingError, match="cannot connect"):
            await answers_on_all([replica], "student", wait_s=3, sleep=clock.sleep, timer=clock)
