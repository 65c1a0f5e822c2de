"""The thirty kinds of tasks, the short ones first."""

from __future__ import annotations

SHORT = (
    "find-non-living-thing",
    "lifespan-longest-lived",
    "lifespan-shortest-lived",
    "lifespan-longest-lived-then-shortest-lived",
    "find-living-thing",
    "find-animal",
    "find-plant",
    "power-component",
    "use-thermometer",
    "chemistry-mix",
    "identify-life-stages-2",
    "change-the-state-of-matter-of",
    "chemistry-mix-paint-secondary-color",
    "melt",
)
"""Gold paths of 3 to about 25 actions, in the order of the first dev variation's."""

LONG = (
    "measure-melting-point-unknown-substance",
    "test-conductivity",
    "power-component-renewable-vs-nonrenewable-energy",
    "chemistry-mix-paint-tertiary-color",
    "test-conductivity-of-unknown-substances",
    "boil",
    "freeze",
    "identify-life-stages-1",
    "inclined-plane-determine-angle",
    "inclined-plane-friction-named-surfaces",
    "measure-melting-point-known-substance",
    "grow-plant",
    "grow-fruit",
    "inclined-plane-friction-unnamed-surfaces",
    "mendelian-genetics-known-plant",
    "mendelian-genetics-unknown-plant",
)
"""The others; up to about 135 actions, the first of them in some variations only."""

KINDS = (*SHORT, *LONG)
