"""Configuration to decisions: agreement, policy, guards, and what is left to chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import AgreementRule, DeferralPolicy, Describer
from tutelage.runtime.types import SamplePlan, Step

if TYPE_CHECKING:
    from tutelage.cascade.canonical.effects import Effect, Effects
    from tutelage.cascade.canonical.protocol import Canonicalizer
    from tutelage.cascade.policy_file import Conditions, PolicyFile
    from tutelage.cascade.step_scores import StepScores
    from tutelage.cascade.watch import PolicyWatch, ReleaseWatches


@dataclass(frozen=True, slots=True)
class Choice:
    """Which policy decides; what is ``None`` is as configured."""

    policy: str | None = None
    guards: tuple[str, ...] | None = None
    p_teacher: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the policy as JSON values, instead of the configured ones and of the file's."""
    bare: bool = False
    """Whether policy and guards alone decide: no routing, no budgets, no holdout."""
    routed: bool = False
    """Whether routing and sticky escalation take part even so."""
    labels: bool = False
    """Whether the teacher is asked about every step of the student before the world goes on."""


class Policies:
    """Makes what decides, as a configuration says.

    Args:
        config: The configuration.
        teacher_cost_usd: What the teacher would cost in a step.
    """

    def __init__(self, config: Config, teacher_cost_usd: Callable[[Step], float]) -> None:
        self._config = config
        self._teacher_cost_usd = teacher_cost_usd

    @cached_property
    def canonicalizer(self) -> Canonicalizer:
        """How answers are compared.

        Raises:
            ConfigError: ``cascade.canonical`` is unknown or cannot be made.
        """
        from tutelage.cascade.canonical.registry import CanonicalOptions, canonicalizer_named

        cascade = self._config.cascade
        household = cascade.grammar == "household"
        return canonicalizer_named(
            cascade.canonical or ("household" if household else "text"),
            CanonicalOptions(
                order_free=cascade.order_free,
                ordered=cascade.ordered,
                effects=self.effects,
                stateful=cascade.stateful,
                tools=cascade.react_tools,
            ),
        )

    @cached_property
    def watch(self) -> PolicyWatch | None:
        """What tightens the policy of the file where traffic has drifted, if there is one.

        Raises:
            ConfigError: The file, or the level of its alarm, cannot be read.
        """
        from tutelage.cascade.watch import open_watch

        path, evidence = self._config.cascade.policy_file, self._config.evidence
        if not path or self.file is None:
            return None
        return open_watch(
            Path(path), self.file.disagreement, evidence.failures, evidence.alarm_delta
        )

    @cached_property
    def watches(self) -> ReleaseWatches | None:
        """Leads what traffic says to the watch over whoever served; ``None``: nothing watches."""
        from tutelage.cascade.watch import ReleaseWatches

        if self.watch is None and self._config.releases.student is None:
            return None
        return ReleaseWatches(self.watch)

    @cached_property
    def effects(self) -> Effects:
        """Which actions may change the world."""
        from tutelage.cascade.canonical.effects import Effects

        return Effects(self._declared_effects())

    @cached_property
    def file(self) -> PolicyFile | None:
        """The policy file, if one is configured.

        Raises:
            ConfigError: It cannot be read.
        """
        from tutelage.cascade.policy_file import PolicyFile

        path = self._config.cascade.policy_file
        return PolicyFile.read(Path(path)) if path else None

    def describer(self, options: Mapping[str, Any] | None = None) -> Describer:
        """What is known of a step beside its votes.

        Args:
            options: Of the policy; its ``scores`` make the feature ``prompt``. Absent: those of the
                policy file, if any.
        """
        from tutelage.cascade.features import StepDescriber
        from tutelage.cascade.step_scores import StepScores

        scores: StepScores | None = None
        if options and "scores" in options:
            scores = StepScores.from_json(options["scores"])
        elif self.file is not None:
            scores = self.file.step_scores()
        prompt = scores.prompt if scores is not None else None
        return StepDescriber(self.canonicalizer, self.effects.is_mutating, prompt=prompt)

    def agreement(self) -> AgreementRule:
        """The agreement rule, as ``cascade.rule`` names it.

        Raises:
            ConfigError: More votes are needed than samples are drawn, the threshold is none of
                the rule's, or log-probabilities are needed that the student does not tell.
        """
        from tutelage.cascade.agreement import Majority, MOfN, Unanimous, Weighted
        from tutelage.cascade.asymmetric import Asymmetric
        from tutelage.cascade.first_likely import FirstLikely
        from tutelage.cascade.stepped_agreement import SteppedAgreement

        cascade = self._config.cascade
        threshold, needed, drawn = cascade.rule_threshold, cascade.agree, cascade.samples
        if needed is not None and needed > drawn:
            raise ConfigError(
                f"cascade.agree = {needed}: of cascade.samples = {drawn} samples no more than "
                f"{drawn} can agree"
            )
        enough = cascade.enough_logprob
        if enough is not None and not self._config.student.logprobs:
            raise ConfigError(
                f"cascade.enough_logprob = {enough:g} needs student.logprobs = true: without the "
                "student's log-probabilities no first sample is ever enough"
            )

        def counting(form: Canonicalizer) -> AgreementRule:
            if cascade.rule == "majority":
                return Majority(form, threshold)
            if cascade.rule == "likelihood":
                return Weighted(form, threshold)
            if cascade.rule == "asymmetric":
                return Asymmetric(form, self.effects.is_mutating, needed)
            return Unanimous(form) if needed is None else MOfN(form, needed)

        def made(form: Canonicalizer) -> AgreementRule:
            rule = counting(form)
            if enough is None:
                return rule
            told_apart = cascade.rule == "asymmetric"
            return FirstLikely(rule, enough, self.effects.is_mutating if told_apart else None)

        return SteppedAgreement(self.canonicalizer, made)

    def policy(
        self, choice: Choice, teacher_only_tools: Sequence[str] = (), *, prepare: bool = False
    ) -> DeferralPolicy:
        """The policy inside routing, guards, budgets and holdout.

        Args:
            choice: Which policy.
            teacher_only_tools: Tools that only the teacher may call.
            prepare: Whether what the first tool call would load is loaded now.

        Raises:
            ConfigError: A policy or guard is unknown, or its options do not fit.
        """
        from tutelage.cascade.guards.composition import GuardOptions, guarded
        from tutelage.cascade.guards.tools import ToolGuard

        policy = self._core(choice)
        if choice.routed or not choice.bare:
            policy = self._sticky(self._routed(policy))
        names = self._config.cascade.guards if choice.guards is None else choice.guards
        policy = guarded(policy, names, GuardOptions(self.canonicalizer))
        if not choice.bare:
            policy = self._within_budget(policy)
        tools = ToolGuard(policy, teacher_only_tools)
        if prepare:
            tools.prepare()
        return tools if choice.bare else self._held_out(tools)

    def conditions(self, bank: str, teacher: str) -> Conditions:
        """Under which a policy that is calibrated now holds.

        Args:
            bank: Version of the demonstrations; empty: none are shown.
            teacher: Model of the teacher, or the oracle that stands for it.

        Raises:
            ConfigError: The chain cannot be made.
        """
        from tutelage.cascade.policy_file import Conditions
        from tutelage.runtime.chain_config import check_chain

        check_chain(self._config)

        config, cascade = self._config, self._config.cascade
        shown = f"{config.retrieval.model_dump_json()}{config.prompt.model_dump_json()}"
        declared = {
            "effects": self._declared_effects(),
            "order_free": {tool: sorted(paths) for tool, paths in cascade.order_free.items()},
            "ordered": {tool: sorted(paths) for tool, paths in cascade.ordered.items()},
            "stateful": cascade.stateful,
            "tools": sorted(cascade.react_tools),
        }
        digest = _digest(json.dumps(declared, sort_keys=True))
        form = f"{cascade.canonical or cascade.grammar}:{digest}"
        rule = "votes" if cascade.rule == "votes" else f"{cascade.rule}:{cascade.rule_threshold}"
        rule = f"{rule}:{cascade.agree}" if cascade.agree is not None else rule
        if cascade.enough_logprob is not None:
            rule = f"{rule}:first>={cascade.enough_logprob}"
        return Conditions(
            student=_acting_identity(config),
            teacher=teacher,
            bank=bank if config.retrieval.enabled else "",
            samples=cascade.samples,
            temperature=cascade.temperature,
            draw=cascade.draw,
            greedy_first=cascade.greedy_first,
            rule=rule,
            form=form,
            guards=tuple(sorted(cascade.guards)),
            prompt=_digest(shown),
            routing=_routing(config),
        )

    def sample_plan(self, options: Mapping[str, Any] | None = None) -> SamplePlan:
        """How the student is sampled.

        Args:
            options: Fields of the plan in place of the configured ones; others are passed over.
        """
        cascade = self._config.cascade
        plan = SamplePlan(cascade.samples, cascade.temperature, cascade.draw, cascade.greedy_first)
        known = ("samples", "temperature", "draw", "greedy_first")
        chosen = {name: value for name, value in (options or {}).items() if name in known}
        return replace(plan, **chosen)

    def _declared_effects(self) -> dict[str, Effect]:
        from tutelage.cascade.canonical.effects import HOUSEHOLD_EFFECTS

        cascade = self._config.cascade
        is_household = "household" in (cascade.canonical, cascade.grammar)
        return {**(HOUSEHOLD_EFFECTS if is_household else {}), **cascade.effects}

    def _core(self, choice: Choice) -> DeferralPolicy:
        from tutelage.cascade.deferral import policy_named

        cascade = self._config.cascade
        name = choice.policy or cascade.policy
        options: dict[str, Any] = {}
        own = {
            "calibrated": self._calibrated,
            "benefit": self._benefit,
            "explore": self._explore,
            "threshold": self._threshold,
        }.get(name)
        if own is not None:
            return own(choice.options)
        if name == "paper":
            plan = self.sample_plan(choice.options)
            options = {
                "samples": plan.samples,
                "temperature": plan.temperature,
                "draw": plan.draw,
                "greedy_first": plan.greedy_first,
            }
        elif name == "random":
            options = {
                "p_teacher": cascade.p_teacher if choice.p_teacher is None else choice.p_teacher,
                "seed": cascade.seed if choice.seed is None else choice.seed,
            }
        return policy_named(name, **options)

    def _explore(self, options: Mapping[str, Any]) -> DeferralPolicy:
        from tutelage.cascade.explore import Explore

        seed = int(options.get("seed", self._config.cascade.seed))
        return Explore(self.sample_plan(options), float(options.get("p_teacher", 0.5)), seed)

    def _threshold(self, options: Mapping[str, Any]) -> DeferralPolicy:
        from tutelage.cascade.feature_threshold import FeatureThreshold

        if not {"feature", "threshold"} <= options.keys():
            raise ConfigError(
                "policy 'threshold' needs the options feature and threshold: it is a baseline of "
                "benchmarks; serve with 'calibrated'"
            )
        feature, threshold = str(options["feature"]), float(options["threshold"])
        return FeatureThreshold(self.sample_plan(options), feature, threshold)

    def _calibrated(self, options: Mapping[str, Any]) -> DeferralPolicy:
        from tutelage.cascade.adaptive import Adaptive
        from tutelage.cascade.calibrated import Calibrated

        scores, file = self._scored("calibrated", options)
        threshold = options.get("threshold", file.threshold if file is not None else 2.0)
        floor = options.get("floor", file.floor if file is not None else 0.0)
        sure = options.get("sure", file.sure if file is not None else None)
        watch = self.watch if file is not None else None
        policy: DeferralPolicy = Calibrated(
            self.sample_plan(options), scores.score, threshold, watch
        )
        if sure is not None:
            policy = Adaptive(policy, self.describer(options), scores.prior, sure)
        return self._gated(policy, scores, floor, options)

    def _benefit(self, options: Mapping[str, Any]) -> DeferralPolicy:
        from tutelage.cascade.benefit import Benefit

        scores, file = self._scored("benefit", options)
        value_usd = options.get("value_usd", self._config.cascade.value_usd)
        if value_usd is None:
            raise ConfigError(
                "cascade.policy = 'benefit' needs cascade.value_usd: what a right action instead "
                "of a wrong one is worth"
            )
        policy = Benefit(
            self.sample_plan(options),
            scores.score,
            p_teacher=options.get("p_teacher", file.p_teacher if file is not None else 1.0),
            value_usd=value_usd,
            teacher_cost_usd=self._teacher_cost_usd,
        )
        return self._gated(policy, scores, options.get("floor", 0.0), options)

    def _gated(
        self, policy: DeferralPolicy, scores: StepScores, floor: float, options: Mapping[str, Any]
    ) -> DeferralPolicy:
        from tutelage.cascade.gate import Gate

        return Gate(policy, self.describer(options), scores.prior, floor) if floor else policy

    def _scored(
        self, name: str, options: Mapping[str, Any]
    ) -> tuple[StepScores, PolicyFile | None]:
        from tutelage.cascade.step_scores import StepScores

        if "scores" in options:
            return StepScores.from_json(options["scores"]), None
        if self.file is None:
            raise ConfigError(
                f"cascade.policy = {name!r} needs cascade.policy_file: `tutelage calibrate` "
                "writes one"
            )
        return self.file.step_scores(), self.file

    def _routed(self, policy: DeferralPolicy) -> DeferralPolicy:
        from tutelage.cascade.routing import Radius, Routed

        routing = self._config.routing
        if routing.coverage is None and routing.recall is None and routing.easy is None:
            return policy
        return Routed(
            policy,
            self.canonicalizer,
            coverage=routing.coverage,
            recall=None if routing.recall is None else Radius(routing.recall, routing.votes),
            easy=None if routing.easy is None else Radius(routing.easy, routing.votes),
            is_mutating=self.effects.is_mutating,
            recall_mutating=routing.recall_mutating,
        )

    def _sticky(self, policy: DeferralPolicy) -> DeferralPolicy:
        from tutelage.cascade.sticky import Sticky

        episode = self._config.episode
        if episode.sticky_deferrals is None:
            return policy
        return Sticky(policy, episode.sticky_deferrals, episode.sticky_window)

    def _within_budget(self, policy: DeferralPolicy) -> DeferralPolicy:
        from tutelage.cascade.episode_budget import EpisodeBudget, EpisodeLimits

        episode = self._config.episode
        limits = EpisodeLimits(episode.max_cost_usd, episode.max_steps, episode.max_deferrals)
        return policy if limits == EpisodeLimits() else EpisodeBudget(policy, limits)

    def _held_out(self, policy: DeferralPolicy) -> DeferralPolicy:
        from tutelage.cascade.holdout import Holdout

        evidence = self._config.evidence
        if not evidence.holdout:
            return policy
        return Holdout(policy, evidence.holdout, evidence.seed)


def student_identity(config: Config) -> str:
    """The student as a policy file names it: endpoint's model, or the checkpoint's folder."""
    student = config.student
    name = student.model or student.checkpoint or "SmolLM2-135M-Instruct"
    if student.weights:
        name = f"{name} of weights {student.weights[:16]}"
    return f"{name} with log-probabilities" if student.logprobs else name


def _acting_identity(config: Config) -> str:
    """The student and who is asked after it, before the teacher."""
    chain, student = config.chain, student_identity(config)
    if not chain.tiers:
        return student
    asked = [f"{name} ({config.upstreams[name].model})" for name in chain.tiers]
    votes = "" if chain.samples is None else f" of {chain.samples} samples"
    gate = "" if chain.gate is None else f" gated by {_digest(_text(chain.gate))}"
    return f"{student}, then {', '.join(asked)}{votes}{gate}"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"chain.gate = {path!r} cannot be read: {error}") from None


def _routing(config: Config) -> str:
    """What serves or defers a step beside the policy, in one line; ``off`` where nothing does."""
    episode, routing = config.episode, config.routing
    parts = []
    if any(limit is not None for limit in (routing.coverage, routing.recall, routing.easy)):
        told = routing.model_dump(exclude_none=True)
        parts = [f"{name}={value}" for name, value in told.items()]
    if episode.sticky_deferrals is not None:
        parts.append(f"sticky={episode.sticky_deferrals}/{episode.sticky_window}")
    return ", ".join(sorted(parts)) or "off"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
