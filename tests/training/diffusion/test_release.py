"""A diffusion student as a release: published, served by its own server, recognised, taken down."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.training.diffusion.test_lessons import EXAMPLES, SETTINGS

from tutelage.endpoints import endpoint
from tutelage.released import released_config
from tutelage.runtime.config import Config
from tutelage.runtime.errors import TrainingError
from tutelage.runtime.models.diffusion_server import is_diffusion, server_of
from tutelage.runtime.release import Lineage, Served
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.runtime.types import ChatRequest, Message
from tutelage.training.deploy import ServerDeployment
from tutelage.training.diffusion.probing import record_diffusion_probe
from tutelage.training.diffusion.recipe import DiffusionRecipe, lessons_of
from tutelage.training.diffusion.student import load_diffusion_student
from tutelage.training.releases import ReleaseShelf, Weights

pytestmark = pytest.mark.slow


async def test_a_release_of_a_diffusion_student_serves_and_is_recognised(tmp_path: Path) -> None:
    start = DiffusionRecipe(**{**SETTINGS, "steps": 1}).train(EXAMPLES, tmp_path, tmp_path / "a")
    trained = DiffusionRecipe(**SETTINGS).train(EXAMPLES, start.checkpoint, tmp_path / "b")
    student = load_diffusion_student(trained.checkpoint)
    lesson = lessons_of(EXAMPLES)[0]
    prompt = student.chat.prompt(lesson.messages)
    probe = record_diffusion_probe(
        trained.checkpoint,
        start.checkpoint,
        [prompt],
        [(prompt, student.chat.encode(lesson.answer))],
    )
    engine = open_engine(f"sqlite:///{tmp_path / 'releases.sqlite'}")
    store = SqlReleaseStore(engine, time.time)
    lineage = Lineage(traces_sha256="c" * 64, traces=1, recipe="diffusion", code="0")
    release = ReleaseShelf(tmp_path / "shelf", store).publish(
        Weights(trained.checkpoint, "full"),
        student="parallel",
        tenant="acme",
        lineage=lineage,
        evidence={"passed": True},
        probe=probe,
        origin="run",
    )
    assert is_diffusion(Path(release.folder))
    # What was certified for another student does not hold for this one.
    assert release.policy is None
    deployment = ServerDeployment(tmp_path / "servers", server_of)
    base_url = await deployment.up(release)
    try:
        served = Served(release.name, release.weights_sha256, base_url)
        async with endpoint(released_config(Config(), served).student, "student") as model:
            messages = [Message.model_validate(one) for one in lesson.messages]
            answer = await model.complete(
                ChatRequest(model="x", messages=messages, temperature=0.0), 2
            )
        assert [one.message.text for one in answer.choices] == ["go to desk 1"] * 2
        wrong = release.model_copy(
            update={"probe": probe.model_copy(update={"logprob": probe.logprob - 50.0})}
        )
        with pytest.raises(TrainingError, match="with other weights"):
            await deployment.up(wrong)
    finally:
        await deployment.down(release)
        engine.dispose()
