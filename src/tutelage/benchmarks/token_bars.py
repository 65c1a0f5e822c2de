"""Where the tokens of an episode went, as bars of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tutelage.benchmarks.summary import ArmSummary


@dataclass(frozen=True, slots=True)
class TokenPart:
    """Tokens that were spent on one thing."""

    name: str
    tokens: float
    """Mean of an episode."""


PARTS = (
    "student: instructions",
    "student: demonstrations",
    "student: task and history",
    "student: prompt",
    "student: answers",
    "teacher: prompt",
    "teacher: answers",
)
"""All names, in the order of the bars."""
_COLOURS = {name: colour for name, colour in zip(PARTS, (7, 3, 0, 0, 2, 1, 4), strict=True)}
_KINDS = {"system": PARTS[0], "demonstrations": PARTS[1], "history": PARTS[2]}


def token_parts(row: ArmSummary) -> tuple[TokenPart, ...]:
    """Tokens of a mean episode by what they were for; parts without any are left out.

    Prompts of the student are split as they were assembled, scaled to the tokens that its endpoint
    counted; results without that split have them as one part.
    """
    student, teacher = row.tokens["student"], row.tokens["teacher"]
    amounts = dict.fromkeys(PARTS, 0.0)
    assembled = sum(row.prompt_parts.values())
    if assembled:
        for kind, count in row.prompt_parts.items():
            amounts[_KINDS[kind]] = student.prompt_tokens * count / assembled
    else:
        amounts["student: prompt"] = student.prompt_tokens
    amounts["student: answers"] = student.output_tokens
    amounts["teacher: prompt"] = teacher.prompt_tokens
    amounts["teacher: answers"] = teacher.output_tokens
    return tuple(
        TokenPart(name, amount / row.episodes) for name, amount in amounts.items() if amount
    )


def token_bars(rows: Sequence[ArmSummary]) -> str:
    """One stacked bar an arm, all on one scale, with a legend."""
    split = {row.arm: token_parts(row) for row in rows}
    totals = {arm: sum(part.tokens for part in parts) for arm, parts in split.items()}
    longest = max(totals.values(), default=0.0) or 1.0
    lines = []
    for row in rows:
        bar = "".join(
            f'<i class="series{_COLOURS[part.name]}" '
            f'style="width:{part.tokens / (totals[row.arm] or 1.0):.2%}" '
            f'title="{part.name}: {part.tokens:,.0f}"></i>'
            for part in split[row.arm]
        )
        # Room for the number beside the longest bar.
        width = 82 * totals[row.arm] / longest
        lines.append(
            f'<b>{escape(row.title)}</b><div class="stack">'
            f'<span style="width:{width:.1f}%">{bar}</span>{totals[row.arm]:,.0f}</div>'
        )
    used = {part.name for parts in split.values() for part in parts}
    legend = "".join(
        f'<li><span class="swatch series{_COLOURS[name]}"></span>{name}</li>'
        for name in PARTS
        if name in used
    )
    return f'<ul class="legend">{legend}</ul><div class="bars">{"".join(lines)}</div>'
