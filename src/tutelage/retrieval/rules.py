"""Sizes and limits of curation."""

from __future__ import annotations

from dataclasses import dataclass, field

from tutelage.retrieval.neighbours import NeighbourRule

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class CurationRules:
    """What may be in the bank, and for how long."""

    per_goal: int = 50
    """Active trajectories a goal family at most."""
    writer_share: float = 0.5
    """Share of the active trajectories that one key may have written, where others wrote, too."""
    writer_floor: int = 100
    """Trajectories that a key may have written whatever its share."""
    similarity: float = 0.98
    """Similarity of goals and of actions from which on two trajectories are copies."""
    idle_s: float | None = 90 * DAY_S
    """Trajectories neither shown nor changed for so long are retired; ``None``: never."""
    tools_grace_s: float = DAY_S
    """How long two schemas of a tool may both be in use."""
    late_s: float = 3600.0
    """How long a missing step of an episode is waited for."""
    window_s: float = 90 * DAY_S
    """How far back utility looks."""
    confidence: float = 0.95
    """Of each bound of a utility."""
    least_left_out: int = 3
    """Episodes without a trajectory before its utility may count against it."""
    checks: int = 500
    """Active trajectories compared with their neighbours a run, the longest unchecked first."""
    neighbours: NeighbourRule = field(default_factory=NeighbourRule)
