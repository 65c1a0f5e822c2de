"""A LoRA adapter of the real student, loaded into a real vLLM while it runs, and recognised."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.absence import absent
from tests.made_releases import PASSED

from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.errors import TrainingError
from tutelage.runtime.models.vllm import VllmServer
from tutelage.runtime.models.vllm_environment import detect_device, is_installed, vllm_folder
from tutelage.runtime.release import Lineage
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.deploy import AdapterDeployment, check_weights
from tutelage.training.probe import record_probe
from tutelage.training.releases import ReleaseShelf, Weights
from tutelage.training.replica import Replica

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.student,
    # Raised inside peft by transformers 5, not by our calls.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


def write_adapter(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """An adapter that changes what the student says, and the merged weights of both."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    wrapped = get_peft_model(
        model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, weights in wrapped.named_parameters():
            if "lora_B" in name:
                weights.copy_(0.3 * torch.randn_like(weights))
    adapter, merged = folder / "adapter", folder / "merged"
    wrapped.save_pretrained(adapter)
    (adapter / "README.md").unlink(missing_ok=True)
    wrapped.merge_and_unload().save_pretrained(merged)
    return adapter, merged


async def test_an_adapter_is_loaded_recognised_and_unloaded(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = detect_device()
    if not is_installed(vllm_folder(cache_dir(), device)):
        absent("vLLM is not installed: run `make student`")
    from tokenizers import Tokenizer

    adapter, merged = write_adapter(checkpoint, tmp_path)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    texts = ("Your task is to: put a mug on the shelf. You see a desk 1.", "The capital of France")
    probe = record_probe(merged, checkpoint, [tokenizer.encode(one).ids for one in texts])
    engine = open_engine(f"sqlite:///{tmp_path / 'releases.sqlite'}")
    release = ReleaseShelf(tmp_path / "shelf", SqlReleaseStore(engine, time.time)).publish(
        Weights(adapter, "adapter"),
        student="student",
        tenant="acme",
        lineage=Lineage(traces_sha256="c" * 64, traces=1, recipe="random", code="0"),
        evidence=PASSED,
        probe=probe,
        origin="run",
    )
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    server = VllmServer(
        checkpoint,
        device=device,
        log_path=tmp_path / "vllm.log",
        max_model_len=512,
        kv_cache_gib=1,
        extra_arguments=("--enable-lora", "--max-lora-rank", "8"),
        start_timeout_s=600,
    )
    async with server, Replica(server.base_url) as replica:
        deployment = AdapterDeployment([server.base_url])
        began_s = time.monotonic()
        await deployment.up(release)
        print(f"up and recognised in {time.monotonic() - began_s:.2f} s")
        told = await replica.logprob("student@1", probe)
        base = await replica.logprob("student", probe)
        print(
            f"release {probe.logprob:.3f}, served {told:.3f}; parent "
            f"{probe.parent_logprob:.3f}, served {base:.3f}"
        )
        assert abs(told - probe.logprob) < abs(told - probe.parent_logprob) / 4
        assert abs(base - probe.parent_logprob) < abs(base - probe.logprob) / 4
        # What answers with the base under the name of a release is found.
        await replica.unload_adapter("student@1")
        assert "student@1" not in await replica.models()
        disguised = release.model_copy(update={"student": "student", "number": 1})
        with pytest.raises(TrainingError, match="other weights"):
            await check_weights(_Base(replica), disguised)
    engine.dispose()


class _Base(Replica):
    """Answers to every name with the base weights."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.base_url = replica.base_url

    async def logprob(self, name: str, probe: object) -> float:
        return await self._replica.logprob("student", probe)  # type: ignore[arg-type]
