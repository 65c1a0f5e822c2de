"""How episodes ended, by the release of the student that they were given."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, and_, select

from tutelage.runtime.store.schema import episodes, traces
from tutelage.runtime.store.transactions import Transactions
from tutelage.runtime.types import Reason

FAILURES = frozenset({Reason.STUDENT_FAILED.value, Reason.STUDENT_LATE.value})
"""Reasons for which the teacher took a step because the student gave no answer."""


class SqlCanaryOutcomes:
    """Compares the episodes of a canary with those of the student so far, as they were drawn.

    An episode counts for the release that it was given, asked or not, so that a policy that defers
    more for one of them does not choose which episodes are compared. One in which the student gave
    no answer counts as failed, although the teacher saved it: a server that is down must not pass.
    An episode that changed its release, or began before the canary, does not count.

    Episodes come in the order in which they began, and none before an earlier one has ended: else
    those that are won soon would be seen first, and a test that may stop at any of them be misled.

    Blocking; any thread may use it.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def since(
        self,
        tenant: str,
        canary: str,
        current: str | None,
        started_s: float,
        abandoned_s: float,
        *,
        counts_lost: bool = True,
    ) -> Sequence[tuple[str, bool, bool]]:
        """Episodes that ended, in the order of their first steps.

        Args:
            tenant: Whose.
            canary: Name of the release.
            current: Name of the one that serves the rest; ``None``: the configured student.
            started_s: Unix time at which the canary began.
            abandoned_s: An episode without an outcome that began before this Unix time is no longer
                waited for.
            counts_lost: Whether it then counts as failed, so that agents that never come to an end
                are found; else it is left out.

        Returns:
            Episode id, whether the canary served it, and whether it succeeded.

        Raises:
            StoreError: The database cannot be read.
        """
        query = (
            select(traces.c.episode_id, traces.c.step_index, traces.c.reason, episodes.c.success)
            .add_columns(
                traces.c.created_at_s,
                traces.c.body["student"].as_string(),
                traces.c.body["mode"].as_string(),
            )
            .select_from(
                traces.outerjoin(
                    episodes,
                    and_(
                        episodes.c.tenant == traces.c.tenant,
                        episodes.c.id == traces.c.episode_id,
                    ),
                )
            )
            .where(
                traces.c.tenant == tenant,
                traces.c.created_at_s >= started_s,
            )
            .order_by(traces.c.created_at_s, traces.c.step_index)
        )
        with self._transactions.reading() as connection:
            rows = connection.execute(query).all()
        seen: dict[str, _Seen] = {}
        for episode_id, index, reason, success, at_s, student, mode in rows:
            if mode not in ("cascade", "route") or reason == Reason.FORCED.value:
                continue
            one = seen.setdefault(episode_id, _Seen(success, at_s))
            one.students.add(student)
            one.begun = one.begun or index == 0
            one.failed = one.failed or reason in FAILURES
        found = []
        for id, one in seen.items():
            if not one.begun or one.students not in ({canary}, {current}):
                continue
            if one.success is None:
                if one.began_s >= abandoned_s:
                    break
                if not counts_lost:
                    continue
            won = one.success is True and not one.failed
            found.append((id, one.students == {canary}, won))
        return found


class _Seen:
    """What is known of an episode so far."""

    def __init__(self, success: bool | None, began_s: float) -> None:
        self.success = success
        self.began_s = began_s
        self.students: set[str | None] = set()
        self.begun = False
        self.failed = False
