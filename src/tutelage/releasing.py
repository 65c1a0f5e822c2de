"""The stages of the flywheel after training: judge, release, deploy, calibrate, canary."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly
from tutelage.endpoints import api_key, endpoint
from tutelage.released import CALIBRATED, folder_of, policy_digest, released_config
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, ReleaseRefused, TrainingError
from tutelage.runtime.release import Release, Served
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.flywheel import Stage, StageOutcome, Work
from tutelage.version import __version__

if TYPE_CHECKING:
    from tutelage.cascade.policy_file import PolicyFile
    from tutelage.training.canary import CanaryState
    from tutelage.training.data.example import TrainingExample
    from tutelage.training.deploy import Deployment
    from tutelage.training.gates.verdict import Gate
    from tutelage.training.replica import Replica

logger = logging.getLogger(__name__)

PROBED_PROMPTS = 8
"""Prompts of which the one is kept that tells two students apart best."""
PROBE_TOKENS = 512
"""Longest prompt of a probe."""

Calibrate = Callable[[Release], Awaitable["PolicyFile | None"]]
"""Certifies a policy for a release that answers; ``None``: nothing can be certified yet."""


class ReleaseStages:
    """Makes a release of a trained student, and gives it traffic as far as it earns it.

    Args:
        assembly: Configuration and database.
        tenant: Whose student it is.
        gates: What judges it.
        deployment: How it is served.
        calibrate: How a policy is certified for it.
        told: Hears how a canary does.
        sleep: Waits.
    """

    def __init__(
        self,
        assembly: Assembly,
        tenant: str,
        *,
        gates: Sequence[Gate],
        deployment: Deployment,
        calibrate: Calibrate,
        told: Callable[[CanaryState], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._assembly = assembly
        self._config = assembly.config
        self._tenant = tenant
        self._gates = tuple(gates)
        self._deployment = deployment
        self._calibrate = calibrate
        self._told = told
        self._sleep = sleep
        self._student = student_name(assembly.config)
        self._store = SqlReleaseStore(assembly.engine, time.time)

    @property
    def stages(self) -> dict[str, Stage]:
        """By their names."""
        return {
            "judge": self.judge,
            "release": self.release,
            "deploy": self.deploy,
            "calibrate": self.calibrate,
            "canary": self.canary,
        }

    async def judge(self, work: Work) -> StageOutcome:
        """Asks the gates; what they block ends the run."""
        from pydantic import TypeAdapter

        from tutelage.training.gates.evaluation import Evaluation
        from tutelage.training.gates.verdict import judge

        file = Path(str(work.run.result("evaluate")["file"]))
        content = await asyncio.to_thread(file.read_bytes)
        evaluation = TypeAdapter(Evaluation).validate_json(content)
        judgement = await asyncio.to_thread(judge, evaluation, self._gates)
        evidence = {**judgement.model_dump(mode="json"), "passed": judgement.passed}
        if judgement.passed:
            return StageOutcome({"evidence": evidence})
        return StageOutcome({"evidence": evidence}, "end", judgement.refusal)

    async def release(self, work: Work) -> StageOutcome:
        """Records how the new weights are recognised, and gives them a number."""
        release = await asyncio.to_thread(self._publish, work)
        return StageOutcome({"name": release.name, "weights_sha256": release.weights_sha256})

    async def deploy(self, work: Work) -> StageOutcome:
        """Brings the release up on every replica, and has it answer recorded steps."""
        release = await self._released(work)
        if release.stage not in ("candidate", "shadow"):
            return StageOutcome({"name": release.name})
        base_url = await self._deployment.up(release)
        if base_url != release.base_url:
            await asyncio.to_thread(self._store.set_base_url, self._tenant, release.name, base_url)
            release = release.model_copy(update={"base_url": base_url})
        right, asked = await self._shadow(release, work)
        needed = self._config.releases.shadow_agreement
        if asked and right < needed * asked:
            await self._deployment.down(release)
            return StageOutcome(
                {"name": release.name, "right": right, "asked": asked},
                "end",
                f"{release.name} names the recorded action in {right} of {asked} steps, and "
                f"releases.shadow_agreement = {needed:g}",
            )
        said = f"{right} of {asked} recorded actions named"
        await asyncio.to_thread(self._store.shadow, self._tenant, release.name, said)
        return StageOutcome({"name": release.name, "right": right, "asked": asked})

    async def calibrate(self, work: Work) -> StageOutcome:
        """Certifies a policy for the release, where the configured one needs that."""
        release = await self._released(work)
        if not needs_policy(self._config) or release.policy is not None:
            return StageOutcome({"calibrated": release.policy is not None})
        file = await self._calibrate(release)
        if file is None:
            logger.warning(
                "no policy is certified for %s: %s decides where it acts, and it is not promoted",
                release.name,
                self._config.releases.safe_policy,
            )
            return StageOutcome({"calibrated": False})
        policy = file.model_dump(mode="json")
        digest = policy_digest(policy)
        await asyncio.to_thread(self._store.set_policy, self._tenant, release.name, policy, digest)
        return StageOutcome({"calibrated": True, "policy_sha256": digest})

    async def canary(self, work: Work) -> StageOutcome:
        """Lets the release serve a growing share of episodes until a test has decided."""
        from tutelage.training.canary import Canary
        from tutelage.training.deploy import drain
        from tutelage.training.gates.sequential import SequentialTest

        chosen, release = self._config.releases, await self._released(work)
        if release.stage in ("current", "retired"):
            return await self._promoted(release)
        if release.stage == "rolled_back":
            await drain(self._deployment, release, chosen.drain_s, self._sleep)
            return StageOutcome({"text": f"{release.name} was rolled back"})
        canary = Canary(
            self._store,
            self._outcomes,
            lambda: SequentialTest(
                margin=chosen.canary_margin,
                delta=chosen.canary_delta,
                longest=chosen.canary_longest,
            ),
            shares=chosen.canary_shares,
            episodes=chosen.canary_episodes,
        )
        try:
            state = await canary.run(
                release,
                wait_s=self._config.flywheel.wait_s,
                poll_s=chosen.canary_poll_s,
                told=self._told,
                sleep=self._sleep,
            )
        except ReleaseRefused:
            if (await self._released(work)).stage in ("candidate", "shadow", "canary"):
                raise
            # An operator has decided meanwhile.
            return await self.canary(work)
        if state.verdict == "continue":
            return StageOutcome({}, "wait", f"{release.name}: {state}")
        if state.verdict == "roll_back":
            await drain(self._deployment, release, chosen.drain_s, self._sleep)
            return StageOutcome({"text": f"{release.name} was rolled back: {state}"})
        if needs_policy(self._config) and (await self._released(work)).policy is None:
            return StageOutcome(
                {},
                "wait",
                f"{release.name} may be promoted ({state}), but has no policy: calibrate it and "
                f"run `tutelage release promote {release.name} --policy-file …`",
            )
        await asyncio.to_thread(self._store.promote, self._tenant, release.name, str(state))
        return await self._promoted(release)

    async def _promoted(self, release: Release) -> StageOutcome:
        """Takes down what serves no longer, but what a rollback would go back to."""
        from tutelage.training.deploy import drain

        traffic = await asyncio.to_thread(self._store.traffic, self._student, self._tenant)
        known = await asyncio.to_thread(self._store.releases, self._tenant, self._student)
        serving = (traffic.current, traffic.canary)
        kept = {traffic.previous, *(one.name for one in serving if one is not None)}
        wait_s = self._config.releases.drain_s
        for one in known:
            if one.stage == "retired" and one.name not in kept:
                await drain(self._deployment, one, wait_s, self._sleep)
                wait_s = 0.0
        return StageOutcome({"text": f"{release.name} was promoted"})

    async def _released(self, work: Work) -> Release:
        name = str(work.run.result("release")["name"])
        return await asyncio.to_thread(self._store.release, self._tenant, name)

    def _publish(self, work: Work) -> Release:
        from tutelage.runtime.release import Lineage
        from tutelage.training.releases import ReleaseShelf, Weights

        made = self._store.made_by(self._tenant, work.run.id)
        trained, selected = work.run.result("train"), work.run.result("select")
        is_adapter = self._config.releases.serve == "adapter"
        folder = trained["adapter"] if is_adapter else trained["checkpoint"]
        if folder is None:
            raise TrainingError(
                f"training.recipe = {trained['recipe']!r} leaves no adapter: set releases.serve = "
                "'server' or 'elsewhere'"
            )
        probe = made.probe if made is not None else None
        if made is None:
            probe = self._probe(work)
        lineage = Lineage(
            traces_sha256=str(selected["traces_sha256"]),
            traces=int(selected["traces"]),
            bank=str(selected.get("bank") or ""),
            recipe=str(trained["recipe"]),
            settings=dict(trained["settings"]),
            parent=str(trained.get("parent") or ""),
            parent_sha256=str(trained.get("parent_sha256") or ""),
            code=__version__,
        )
        return ReleaseShelf(folder_of(self._config), self._store).publish(
            Weights(Path(str(folder)), "adapter" if is_adapter else "full"),
            student=self._student,
            tenant=self._tenant,
            lineage=lineage,
            evidence=dict(work.run.result("judge")["evidence"]),
            probe=probe,
            origin=work.run.id,
        )

    def _probe(self, work: Work) -> Any:
        from tokenizers import Tokenizer

        from tutelage.runtime.models.diffusion_server import is_diffusion
        from tutelage.training.probe import CONTINUATION, record_probe

        trained = work.run.result("train")
        checkpoint, start = Path(str(trained["checkpoint"])), Path(str(trained["start"]))
        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        learnt = []
        for one in read_examples(Path(str(work.run.result("select")["file"])), PROBED_PROMPTS):
            last = one.supervised[-1]
            prompt = "\n".join(str(m.get("content") or "") for m in one.messages[:last])
            answer = str(one.messages[last].get("content") or "")
            ids = tokenizer.encode(prompt).ids[-PROBE_TOKENS:]
            taught = tokenizer.encode(f"\n{answer}", add_special_tokens=False).ids[:CONTINUATION]
            learnt.append((ids, taught))
        prompts = [ids for ids, _ in learnt if ids]
        if is_diffusion(checkpoint):
            from tutelage.training.diffusion.probing import record_diffusion_probe

            return record_diffusion_probe(checkpoint, start, prompts, learnt)
        threads = self._config.training.settings.get("threads")
        given = None if threads is None else int(threads)
        return record_probe(checkpoint, start, prompts, learnt, threads=given)

    async def _outcomes(self, release: Release) -> Sequence[tuple[str, bool, bool]]:
        from tutelage.runtime.store.canary_outcomes import SqlCanaryOutcomes

        traffic = await asyncio.to_thread(self._store.traffic, self._student, self._tenant)
        events = await asyncio.to_thread(self._store.events, self._tenant, release.name)
        started_s = next(one.at_s for one in events if one.event == "canary")
        chosen = self._config.releases
        read = SqlCanaryOutcomes(self._assembly.engine)
        return await asyncio.to_thread(
            lambda: read.since(
                self._tenant,
                release.name,
                traffic.current.name if traffic.current else None,
                started_s,
                time.time() - chosen.canary_patience_s,
                counts_lost=chosen.canary_without_outcome == "lost",
            )
        )

    async def _shadow(self, release: Release, work: Work) -> tuple[int, int]:
        """How many recorded actions of held-out steps the release names, and of how many."""
        from tutelage.runtime.protocols import rule_for
        from tutelage.runtime.types import ChatRequest, Choice, Message

        file = work.run.result("select").get("held_out_file")
        limit = self._config.releases.shadow_steps
        if not file or not limit:
            return 0, 0
        served = Served(release.name, release.weights_sha256, release.base_url)
        model = endpoint(released_config(self._config, served).student, "student")
        agreement = self._assembly.policies.agreement()
        right = asked = 0
        try:
            for one in read_examples(Path(str(file)), limit):
                last = one.supervised[-1]
                messages = [Message.model_validate(message) for message in one.messages]
                rule = rule_for(agreement, one.tools)
                request = ChatRequest(
                    model=release.name,
                    messages=messages[:last],
                    tools=[dict(tool) for tool in one.tools] or None,
                    temperature=0.0,
                )
                completion = await model.complete(request)
                wanted = rule.action(Choice(index=0, message=messages[last]))
                asked += 1
                right += wanted is not None and rule.action(completion.choices[0]) == wanted
        finally:
            await model.aclose()
        return right, asked


def read_examples(file: Path, limit: int | None = None) -> list[TrainingExample]:
    """Examples from JSON lines, at most so many, from the first on.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    from tutelage.training.data.example import TrainingExample

    try:
        with file.open(encoding="utf-8") as lines:
            found: list[TrainingExample] = []
            for line in lines:
                if limit is not None and len(found) >= limit:
                    break
                found.append(TrainingExample.model_validate_json(line))
            return found
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} cannot be read ({error}): remove its run folder") from error


def write_examples(file: Path, examples: Sequence[TrainingExample]) -> None:
    """Writes examples as JSON lines, in one piece."""
    part = file.with_name(f".{file.name}.part")
    part.write_text("".join(f"{one.model_dump_json()}\n" for one in examples), encoding="utf-8")
    part.replace(file)


def student_name(config: Config) -> str:
    """What releases are called.

    Raises:
        ConfigError: It is not configured.
    """
    if config.releases.student is None:
        raise ConfigError(
            "releases.student is not set: name the student, for example releases.student = "
            "'student'; its releases are student@1, student@2, …"
        )
    return config.releases.student


def needs_policy(config: Config) -> bool:
    """Whether what decides is calibrated for one student."""
    return config.cascade.policy in CALIBRATED


def replicas_of(config: Config) -> tuple[str, ...]:
    """Addresses of the student's servers.

    Raises:
        ConfigError: None is configured.
    """
    found = config.releases.replicas or (
        (config.student.base_url,) if config.student.base_url else ()
    )
    if not found:
        raise ConfigError(
            "releases.replicas is not set, and student.base_url neither: give the addresses of the "
            "student's servers, for example ['http://127.0.0.1:8000/v1']"
        )
    return found


def open_replica(config: Config) -> Callable[[str], Replica]:
    """How a replica is opened, with the student's key."""
    from tutelage.training.replica import Replica

    secret = api_key(config.student, "student")
    return lambda address: Replica(address, secret=secret)


def deployment_of(config: Config) -> Deployment:
    """How ``releases.serve`` has a release served.

    Raises:
        ConfigError: The servers are not configured.
    """
    from tutelage.runtime.models.diffusion_server import server_of
    from tutelage.training.deploy import (
        AdapterDeployment,
        ElsewhereDeployment,
        ServerDeployment,
    )

    chosen, opened = config.releases, open_replica(config)
    if chosen.serve == "adapter":
        return AdapterDeployment(replicas_of(config), opened)
    if chosen.serve == "elsewhere":
        return ElsewhereDeployment(replicas_of(config), chosen.wait_s, opened)
    return ServerDeployment(folder_of(config) / "servers", server_of, opened)


async def calibrate_release(
    assembly: Assembly, release: Release, folder: Path
) -> PolicyFile | None:
    """Certifies a policy for a release by play in ``flywheel.world``.

    ``None`` where that is not configured, or where nothing is certified.

    Raises:
        ConfigError: The splits overlap, or an option does not fit.
        BenchmarkError: An episode failed.
    """
    from tutelage.assembly import open_assembly
    from tutelage.benchmarks.progress import Unwatched
    from tutelage.calibrating import Goal, calibrate_by_play
    from tutelage.rehearsal import Play

    chosen = assembly.config.flywheel
    if chosen.world is None or chosen.calibrate_fit is None or chosen.calibrate_on is None:
        return None
    served = Served(release.name, release.weights_sha256, release.base_url)
    config = released_config(assembly.config, served)
    plain = config.cascade.model_copy(update={"policy": "paper"})
    play = Play(world=chosen.world, split=chosen.calibrate_on, out=folder / "calibration", seeds=1)
    async with open_assembly(config.model_copy(update={"cascade": plain})) as released:
        found = await calibrate_by_play(
            released,
            play,
            chosen.calibrate_fit,
            Goal(alpha=chosen.calibrate_alpha),
            Unwatched(),
        )
    return found.file
