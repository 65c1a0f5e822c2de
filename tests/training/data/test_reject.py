from __future__ import annotations

from tutelage.training.data.reject import Reject, RejectReason, report_of


def test_the_account_counts_and_names_examples() -> None:
    rejects = [Reject(f"x{i}", RejectReason.TENANT) for i in (3, 1, 2)]
    report = report_of(9, [*rejects, Reject("y", RejectReason.DUPLICATE)], samples=2)
    assert (report.seen, report.passed) == (9, 5)
    assert report.counts == {RejectReason.TENANT: 3, RejectReason.DUPLICATE: 1}
    assert report.samples[RejectReason.TENANT] == ("x1", "x2")
    assert report.lines() == ["5 of 9 passed", "3 tenant: x1, x2", "1 duplicate: y"]


def test_the_account_survives_json() -> None:
    report = report_of(2, [Reject("a", RejectReason.TOO_LONG)])
    assert type(report).model_validate_json(report.model_dump_json()) == report
