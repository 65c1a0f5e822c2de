"""Configuration of the loop: releases, training, and the flywheel that runs both."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """A table of the configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseConfig(Section):
    """Versioned students: which one acts is one row of the database."""

    student: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """What releases are called before ``@<number>``; absent: the student always acts as it is
    configured."""
    folder: str | None = None
    """Where weights are kept, the same path on the servers of the student; absent: in the cache
    folder."""
    refresh_s: float = Field(5.0, gt=0, le=20)
    """How old a worker's knowledge of who serves may be."""
    patience_s: float = Field(2.0, gt=0, le=5)
    """How long a request waits until that is read anew; then what was read last holds."""
    safe_policy: Literal["always-teacher", "paper"] = "always-teacher"
    """Who decides where ``cascade.policy`` needs a calibration and a release has none that fits."""
    serve: Literal["adapter", "server", "elsewhere"] = "server"
    """``adapter``: the servers in ``replicas`` load it while they run; ``server``: merged weights
    in a vLLM server of their own on this machine; ``elsewhere``: something else makes
    ``replicas`` serve it, from the manifest of ``tutelage release show``."""
    replicas: tuple[str, ...] = ()
    """Addresses of the student's servers, each ending in ``/v1``; absent: ``student.base_url``."""
    wait_s: float = Field(300.0, gt=0)
    """How long replicas may take to answer with a new release."""
    drain_s: float = Field(60.0, ge=0)
    """How long a release that was taken back may finish what it has begun."""
    canary_shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    """Shares of episodes that a canary serves one after the other."""
    canary_episodes: int = Field(25, ge=1)
    """Finished episodes of the canary before its share grows."""
    canary_margin: float = Field(0.1, gt=0, lt=1)
    """Success that a canary may lose against the student so far, as a share of episodes."""
    canary_delta: float = Field(0.05, gt=0, lt=0.5)
    """Allowed probability that a canary is promoted though it is worse by the margin, and that one
    is rolled back though it is not worse at all."""
    canary_longest: int = Field(1000, ge=1)
    """Episodes of the canary after which it is rolled back if nothing is decided."""
    canary_patience_s: float = Field(3600.0, gt=0)
    """How long the outcome of an episode is waited for, counted from its first step."""
    canary_without_outcome: Literal["lost", "left_out"] = "lost"
    """How an episode counts, of either student, whose outcome did not come in that time."""
    canary_poll_s: float = Field(10.0, gt=0)
    """How often outcomes are looked at."""
    shadow_steps: int = Field(20, ge=0)
    """Recorded steps that a release answers before it gets traffic."""
    shadow_agreement: float = Field(0.0, ge=0, le=1)
    """Share of them in which it must name the recorded action."""

    @field_validator("canary_shares")
    @classmethod
    def _check_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        ascending = all(a < b for a, b in pairwise(shares))
        if not shares or not ascending or shares[0] <= 0 or shares[-1] >= 1:
            raise ValueError("give shares above 0 and below 1, each larger than the one before")
        return shares


class CurationConfig(Section):
    """What may be in the bank of demonstrations, and for how long."""

    after_feedback: bool = True
    """Whether a serving process makes demonstrations of an episode as soon as feedback says how it
    ended; else ``tutelage demos curate`` and the flywheel do."""
    dropout_share: float = Field(0.0, ge=0, lt=0.5)
    """Probability with which each demonstration is left out, for a whole episode, so that its
    utility is measured; 0: it is only noted what is shown."""
    dropout_seed: int = 0
    """Another seed leaves out others."""
    per_goal: int = Field(50, ge=1)
    """Active trajectories a goal family at most."""
    writer_share: float = Field(0.5, gt=0, le=1)
    """Share of the active trajectories that one key may have written, where others wrote, too."""
    writer_floor: int = Field(100, ge=1)
    """Trajectories that a key may have written whatever its share."""
    similarity: float = Field(0.98, gt=0, le=1)
    """Similarity of goals and of actions from which on two trajectories are copies."""
    idle_days: float = Field(90.0, ge=0)
    """Trajectories neither shown nor changed for so long are retired; 0: never."""
    tools_grace_hours: float = Field(24.0, ge=0)
    """How long two schemas of a tool may both be in use."""
    late_s: float = Field(3600.0, ge=0)
    """How long a missing step of an episode is waited for."""
    window_days: float = Field(90.0, gt=0)
    """How far back utility looks."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of each bound of a utility."""
    least_left_out: int = Field(3, ge=1)
    """Episodes without a trajectory before its utility may count against it."""
    checks: int = Field(500, ge=0)
    """Active trajectories compared with their neighbours a run, the longest unchecked first."""
    neighbour_score: float = Field(0.7, ge=0, le=1.3)
    """Least score of a neighbour, as the retriever ranks."""
    neighbour_writers: int = Field(6, ge=2)
    """Independent writers without whom nothing is judged."""
    refresh_s: float = Field(5.0, gt=0)
    """How often a serving process looks for changes of the bank."""


class TrainingConfig(Section):
    """How a student is trained."""

    recipe: str = "supervised"
    """``supervised``, or ``module:attribute`` of one's own, which is called with ``settings``."""
    checkpoint: str | None = None
    """Folder that training starts from; absent: that of the student."""
    start: Literal["base", "current"] = "base"
    """Whether each run starts from ``checkpoint``, or from the release that serves."""
    settings: dict[str, bool | int | float | str] = {}
    """Settings of the recipe by name; what is not named has the recipe's own default."""
    shape: Literal["steps", "trajectories"] = "steps"
    """``steps``: one chat a step, as the student's prompt is rendered; ``trajectories``: whole
    episodes, each token once, for a student that is shown all history
    (``prompt.history_turns = "all"``)."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of tasks that are evaluated and never learnt from."""
    least_difficulty: float = Field(0.0, ge=0, le=1)
    """Least share of its tries in which the student fails at an example's state; 0 keeps all."""
    max_examples: int = Field(20_000, ge=1)
    """Most examples of a run; of more, those whose actions differ most are kept."""
    mixing: Literal["as_found", "uniform", "deferral"] = "as_found"
    """Weights of kinds of tasks: as many as there are, equal, or more of what is deferred."""


class FlywheelConfig(Section):
    """When students are trained and released."""

    folder: str | None = None
    """Where runs keep their files; absent: in the cache folder."""
    min_new_traces: int = Field(200, ge=1)
    """New verified traces without which nothing is trained."""
    lease_s: float = Field(120.0, ge=1)
    """After so long without a sign of life a run may be taken over."""
    attempts: int = Field(3, ge=1)
    """How often a stage is tried, over all invocations, before its run is given up."""
    wait_s: float = Field(3600.0, ge=0)
    """How long one invocation waits for canary episodes; the next one goes on."""
    world: str | None = None
    """World in which candidate and current student are compared, such as ``household``; absent:
    recorded steps of held-out tasks."""
    split: str = "valid_unseen"
    """Split of that world."""
    arm: str = "demos-cascade"
    """How both students play it, as in ``tutelage replay``."""
    evaluated_steps: int = Field(200, ge=1)
    """Most recorded steps that are compared where no world is named."""
    calibrate_fit: str | None = None
    """Split of ``world`` on which the scores of a release are fitted; without it and
    ``calibrate_on`` a release is not calibrated, and ``releases.safe_policy`` decides."""
    calibrate_on: str | None = None
    """Split of ``world`` that certifies the policy of a release."""
    calibrate_alpha: float = Field(0.05, gt=0, lt=1)
    """Risk that is allowed."""
    sleep_student: bool = False
    """Whether the student's servers sleep while a candidate is trained on the same GPU."""
