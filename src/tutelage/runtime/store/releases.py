"""Releases in the database: what they are, and the one row that says who serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.runtime.errors import ReleaseRefused
from tutelage.runtime.release import (
    Release,
    ReleaseEvent,
    Served,
    Stage,
    Traffic,
    split_name,
)
from tutelage.runtime.store.schema import (
    release_events,
    release_outcomes,
    release_traffic,
    releases,
)
from tutelage.runtime.store.transactions import Transactions

_COLUMNS = frozenset({"student", "number", "tenant", "stage", "created_at_s", "policy"})


class SqlReleaseStore:
    """Keeps releases; every change of who serves is one transaction with one row of traffic.

    Blocking; any thread may use it.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._transactions = Transactions(engine)
        self._clock = clock

    def add(self, draft: Release, origin: str | None = None) -> Release:
        """Keeps a release under the next number of its student, as a candidate.

        Args:
            draft: All but its number, stage and time, which are set here.
            origin: What made it; a second release of one origin is the first one again.

        Raises:
            StoreError: The database cannot be written.
        """
        with self._transactions.writing() as connection:
            # PostgreSQL lets two writers read the same highest number; the key refuses the second.
            if origin is not None:
                made = connection.execute(
                    select(releases).where(
                        releases.c.tenant == draft.tenant, releases.c.origin == origin
                    )
                ).one_or_none()
                if made is not None:
                    return _release(made)
            highest = connection.execute(
                select(func.max(releases.c.number)).where(releases.c.student == draft.student)
            ).scalar()
            made_at_s = self._clock()
            release = draft.model_copy(
                update={
                    "number": (highest or 0) + 1,
                    "stage": "candidate",
                    "created_at_s": made_at_s,
                }
            )
            connection.execute(
                insert(releases),
                {
                    "student": release.student,
                    "number": release.number,
                    "tenant": release.tenant,
                    "stage": release.stage,
                    "created_at_s": made_at_s,
                    "origin": origin,
                    "weights_sha256": release.weights_sha256,
                    "body": _body(release),
                    "policy": release.policy,
                },
            )
            self._tell(connection, release, "made", release.lineage.recipe)
            return release

    def release(self, tenant: str, name: str) -> Release:
        """One release of a tenant.

        Raises:
            ReleaseRefused: There is none.
            ConfigError: The name is none.
        """
        with self._transactions.reading() as connection:
            return _found(connection, tenant, name)

    def made_by(self, tenant: str, origin: str) -> Release | None:
        """The release of an origin, if it was made."""
        query = select(releases).where(releases.c.tenant == tenant, releases.c.origin == origin)
        with self._transactions.reading() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _release(row)

    def releases(self, tenant: str, student: str | None = None) -> Sequence[Release]:
        """All releases of a tenant, the newest first."""
        query = select(releases).where(releases.c.tenant == tenant)
        if student is not None:
            query = query.where(releases.c.student == student)
        query = query.order_by(releases.c.created_at_s.desc(), releases.c.number.desc())
        with self._transactions.reading() as connection:
            return [_release(row) for row in connection.execute(query)]

    def events(self, tenant: str, name: str) -> Sequence[ReleaseEvent]:
        """What happened to a release, oldest first.

        Raises:
            ReleaseRefused: There is no such release.
        """
        with self._transactions.reading() as connection:
            release = _found(connection, tenant, name)
            rows = connection.execute(
                select(release_events)
                .where(
                    release_events.c.student == release.student,
                    release_events.c.release_number == release.number,
                )
                .order_by(release_events.c.number)
            ).all()
        return [ReleaseEvent(row.at_s, name, row.event, row.detail) for row in rows]

    def traffic(self, student: str, tenant: str) -> Traffic:
        """Who serves a tenant now."""
        return self.all_traffic(student).get(tenant, Traffic(student, tenant))

    def all_traffic(self, student: str) -> dict[str, Traffic]:
        """Who serves each tenant that has releases.

        Raises:
            StoreError: The database cannot be read.
        """
        wanted = and_(
            releases.c.student == release_traffic.c.student,
            or_(
                releases.c.number == release_traffic.c.current_number,
                releases.c.number == release_traffic.c.canary_number,
            ),
        )
        query = (
            select(release_traffic, releases.c.number, releases.c.weights_sha256)
            .add_columns(releases.c.policy, releases.c.body["base_url"].as_string())
            .select_from(release_traffic.outerjoin(releases, wanted))
            .where(release_traffic.c.student == student)
        )
        found: dict[str, Traffic] = {}
        with self._transactions.reading() as connection:
            rows = connection.execute(query).all()
        served: dict[str, dict[int, Served]] = {}
        for row in rows:
            if row.number is not None:
                name = f"{student}@{row.number}"
                one = Served(name, row.weights_sha256, row[-1] or None, row.policy)
                served.setdefault(row.tenant, {})[row.number] = one
        for row in rows:
            known = served.get(row.tenant, {})
            found[row.tenant] = Traffic(
                student=student,
                tenant=row.tenant,
                current=known.get(row.current_number),
                previous=f"{student}@{row.previous_number}" if row.previous_number else None,
                canary=known.get(row.canary_number),
                canary_share=row.canary_share,
                changed_at_s=row.changed_at_s,
            )
        return found

    def set_evidence(self, tenant: str, name: str, evidence: dict[str, Any]) -> None:
        """Keeps what the gates found.

        Raises:
            ReleaseRefused: There is no such release.
        """
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            kept = release.model_copy(update={"evidence": evidence})
            self._update(connection, release, body=_body(kept))
            self._tell(connection, release, "judged", "passed" if kept.passed else "blocked")

    def set_base_url(self, tenant: str, name: str, base_url: str | None) -> None:
        """Keeps where a release with a server of its own answers.

        Raises:
            ReleaseRefused: There is no such release.
        """
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            kept = release.model_copy(update={"base_url": base_url})
            self._update(connection, release, body=_body(kept))
            self._tell(connection, release, "placed", base_url or "nowhere")

    def set_policy(self, tenant: str, name: str, policy: dict[str, Any], digest: str) -> None:
        """Keeps the policy that was calibrated for a release; serving workers take it up.

        Raises:
            ReleaseRefused: There is no such release.
        """
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            self._update(connection, release, policy=policy)
            self._tell(connection, release, "calibrated", f"sha256 {digest}")

    def shadow(self, tenant: str, name: str, detail: str) -> None:
        """Marks that a release answers, with no traffic of its own.

        Raises:
            ReleaseRefused: Its stage does not allow it.
        """
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            _check_stage(release, ("candidate", "shadow"), "answer beside traffic")
            self._stage(connection, release, "shadow", detail)

    def canary(self, tenant: str, name: str, share: float) -> None:
        """Gives a release a share of episodes, or changes that share.

        Raises:
            ReleaseRefused: Its stage does not allow it, its gates did not let it through, another
                canary is out, or the share is none.
        """
        if not 0 < share <= 1:
            raise ReleaseRefused(f"{name}: canary share {share}: give one above 0, up to 1")
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            _check_stage(release, ("shadow", "canary"), "get a share of traffic")
            _check_gates(release)
            row = self._row(connection, release)
            if row.canary_number not in (None, release.number):
                raise ReleaseRefused(
                    f"{name}: {release.student}@{row.canary_number} is the canary now: promote it "
                    "or roll it back first"
                )
            self._point(connection, release, canary_number=release.number, canary_share=share)
            self._stage(connection, release, "canary", f"share {share:g}")

    def promote(self, tenant: str, name: str, detail: str = "", *, skips: bool = False) -> None:
        """Makes a release the current one.

        Args:
            tenant: Whose.
            name: Which.
            detail: Why.
            skips: Whether it may come from any stage, as an operator decides.

        Raises:
            ReleaseRefused: Its stage does not allow it, or its gates did not let it through.
        """
        with self._transactions.writing() as connection:
            release = _found(connection, tenant, name)
            row = self._row(connection, release)
            if row.current_number == release.number:
                return
            if not skips:
                _check_stage(release, ("canary",), "become the current one")
            _check_gates(release)
            if row.current_number is not None:
                old = _found(connection, tenant, f"{release.student}@{row.current_number}")
                self._stage(connection, old, "retired", f"{name} took its place")
            if row.canary_number not in (None, release.number):
                other = _found(connection, tenant, f"{release.student}@{row.canary_number}")
                self._stage(connection, other, "rolled_back", f"{name} was promoted")
            self._point(
                connection,
                release,
                current_number=release.number,
                previous_number=row.current_number,
                canary_number=None,
                canary_share=0.0,
            )
            self._stage(connection, release, "current", detail)

    def roll_back(self, student: str, tenant: str, detail: str) -> str | None:
        """Takes the canary back, or without one the current release, for the one before it.

        Returns:
            The name of what was taken back.

        Raises:
            ReleaseRefused: No release serves.
        """
        with self._transactions.writing() as connection:
            row = connection.execute(
                select(release_traffic).where(
                    release_traffic.c.student == student, release_traffic.c.tenant == tenant
                )
            ).one_or_none()
            number = None if row is None else row.canary_number or row.current_number
            if row is None or number is None:
                raise ReleaseRefused(f"no release of {student!r} serves: nothing to roll back")
            release = _found(connection, tenant, f"{student}@{number}")
            if number == row.canary_number:
                self._point(connection, release, canary_number=None, canary_share=0.0)
            else:
                back = row.previous_number
                self._point(connection, release, current_number=back, previous_number=None)
                if back is not None:
                    old = _found(connection, tenant, f"{student}@{back}")
                    self._stage(connection, old, "current", f"{release.name} was rolled back")
            self._stage(connection, release, "rolled_back", detail)
            return release.name

    def count(self, release: Release, outcomes: Iterable[tuple[str, bool, bool]]) -> int:
        """Keeps how episodes ended while a release was the canary; each counts once.

        Args:
            release: The canary.
            outcomes: Episode id, whether the canary served it, and whether it succeeded.

        Returns:
            How many were new.
        """
        table = release_outcomes
        mine = _outcomes_of(release)
        with self._transactions.writing() as connection:
            known = set(connection.execute(select(table.c.episode_id).where(mine)).scalars())
            rows = []
            for episode_id, is_canary, success in outcomes:
                if episode_id in known:
                    continue
                known.add(episode_id)
                rows.append(
                    {
                        "student": release.student,
                        "release_number": release.number,
                        "tenant": release.tenant,
                        "episode_id": episode_id,
                        "position": len(known),
                        "is_canary": is_canary,
                        "success": success,
                    }
                )
            if rows:
                connection.execute(insert(table), rows)
            return len(rows)

    def outcomes(self, release: Release) -> Sequence[tuple[bool, bool]]:
        """Whether the canary served, and success, in the order in which they were counted."""
        table = release_outcomes
        query = select(table.c.is_canary, table.c.success).where(_outcomes_of(release))
        with self._transactions.reading() as connection:
            rows = connection.execute(query.order_by(table.c.position)).all()
        return [(row.is_canary, row.success) for row in rows]

    def _row(self, connection: Connection, release: Release) -> Any:
        """The row of traffic, made where it is missing."""
        is_postgres = connection.dialect.name == "postgresql"
        fresh = (postgresql.insert if is_postgres else sqlite.insert)(release_traffic)
        empty = {"student": release.student, "tenant": release.tenant, "canary_share": 0.0}
        connection.execute(fresh.on_conflict_do_nothing(), {**empty, "changed_at_s": self._clock()})
        query = select(release_traffic).where(_traffic_of(release)).with_for_update()
        return connection.execute(query).one()

    def _point(self, connection: Connection, release: Release, **values: Any) -> None:
        connection.execute(
            update(release_traffic)
            .where(_traffic_of(release))
            .values(**values, changed_at_s=self._clock())
        )

    def _stage(self, connection: Connection, release: Release, stage: Stage, detail: str) -> None:
        self._update(connection, release, stage=stage)
        self._tell(connection, release, stage, detail)

    def _update(self, connection: Connection, release: Release, **values: Any) -> None:
        columns = releases.c
        connection.execute(
            update(releases)
            .where(columns.student == release.student, columns.number == release.number)
            .values(**values)
        )

    def _tell(self, connection: Connection, release: Release, event: str, detail: str) -> None:
        highest = connection.execute(select(func.max(release_events.c.number))).scalar()
        connection.execute(
            insert(release_events),
            {
                "number": (highest or 0) + 1,
                "student": release.student,
                "release_number": release.number,
                "at_s": self._clock(),
                "event": event,
                "detail": detail,
            },
        )


def _release(row: Row[Any]) -> Release:
    own = {name: getattr(row, name) for name in _COLUMNS}
    return Release.model_validate({**row.body, **own})


def _body(release: Release) -> dict[str, Any]:
    """What is kept of a release beside its columns."""
    return release.model_dump(mode="json", exclude=set(_COLUMNS))


def _found(connection: Connection, tenant: str, name: str) -> Release:
    student, number = split_name(name)
    row = connection.execute(
        select(releases).where(
            releases.c.student == student,
            releases.c.number == number,
            releases.c.tenant == tenant,
        )
    ).one_or_none()
    if row is None:
        raise ReleaseRefused(f"{name} does not exist: `tutelage release ls` names all there are")
    return _release(row)


def _traffic_of(release: Release) -> Any:
    columns = release_traffic.c
    return and_(columns.student == release.student, columns.tenant == release.tenant)


def _outcomes_of(release: Release) -> Any:
    columns = release_outcomes.c
    return and_(
        columns.student == release.student,
        columns.release_number == release.number,
        columns.tenant == release.tenant,
    )


def _check_stage(release: Release, allowed: tuple[Stage, ...], what: str) -> None:
    if release.stage not in allowed:
        raise ReleaseRefused(
            f"{release.name} is {release.stage}: only a release that is {' or '.join(allowed)} "
            f"may {what}"
        )


def _check_gates(release: Release) -> None:
    if not release.passed:
        said = "they blocked it" if release.evidence else "none has judged it"
        raise ReleaseRefused(
            f"{release.name} did not pass its gates ({said}): `tutelage release show "
            f"{release.name}` says why"
        )
