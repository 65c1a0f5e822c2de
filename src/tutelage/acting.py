"""Who acts as the student of an arm, and what its prompts show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tutelage.assembly import Assembly
from tutelage.policies import student_identity
from tutelage.runtime.models.remembered import RememberedModel
from tutelage.runtime.protocols import Model, Retriever

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import Arm
    from tutelage.runtime.models.sample_file import SampleFile


async def configured_student(
    assembly: Assembly, arms: Sequence[Arm], file: SampleFile | None = None
) -> Model | None:
    """The student's model, unless no arm ever asks it.

    Args:
        assembly: What is configured.
        arms: Who plays.
        file: Where its samples are kept for all arms; absent: nowhere.

    Raises:
        ConfigError: The endpoint or checkpoint is not usable.
    """
    asked = [
        arm
        for arm in arms
        if arm.policy != "always-teacher"
        and arm.student != "recall"
        and not arm.student.startswith("copying")
    ]
    if not asked:
        return None
    student = await assembly.student()
    if file is None:
        return student
    return RememberedModel(student, student_identity(assembly.config), file)


def acting_student(assembly: Assembly, arm: Arm, student: Model | None) -> Model | None:
    """Who acts as the student of an arm, where the configured one is ``student``."""
    from tutelage.benchmarks.baselines.pooled import PooledModel
    from tutelage.benchmarks.baselines.prompt_router import (
        PromptRoutedModel,
        prompt_classifier_from_json,
    )
    from tutelage.benchmarks.baselines.verifying import VerifyingModel
    from tutelage.benchmarks.copying_student import CopyingStudent

    if arm.student == "recall":
        return recall_model(assembly)
    if arm.student.startswith("copying"):
        student = CopyingStudent()
    if arm.student.endswith("routed"):
        assert student is not None
        classifier = prompt_classifier_from_json(arm.options)
        return PromptRoutedModel(
            student, assembly.embedder.embed, classifier, float(arm.options["p"])
        )
    if arm.student.endswith("pooled"):
        assert student is not None
        return PooledModel([student, recall_model(assembly)])
    if student is None or arm.student in ("student", "copying"):
        return student
    return VerifyingModel(student, student if arm.student == "verifying" else assembly.teacher())


async def static_retriever(assembly: Assembly, arms: Sequence[Arm]) -> Retriever | None:
    """The middle step of each of the first trajectories, for arms that show these."""
    from tutelage.benchmarks.baselines.static_demonstrations import StaticRetriever
    from tutelage.runtime.types import Retrieved

    if not any(arm.static for arm in arms):
        return None
    chosen = assembly.config.retrieval
    tenant = assembly.config.tenant
    found = []
    for trajectory in (await assembly.bank.trajectories(tenant))[: chosen.k]:
        shown = await assembly.bank.demonstrations(
            tenant, trajectory_id=trajectory.id, before=chosen.before, after=chosen.after
        )
        found.append(Retrieved(shown[len(shown) // 2], 0.0))
    return StaticRetriever(found)


def recall_model(assembly: Assembly) -> Model:
    """The vote of retrieved actions, as a model."""
    from tutelage.retrieval.recall import RecallModel

    return RecallModel(assembly.retriever(), assembly.config.tenant)
