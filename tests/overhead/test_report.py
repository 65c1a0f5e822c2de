from __future__ import annotations

import json

import pytest

from tutelage.overhead.figure import Figure
from tutelage.overhead.report import BenchReport, Machine, share_of_step

OWN = Figure("step", "total", 5.0, "ms CPU")


def test_the_share_is_of_the_measured_call() -> None:
    share = share_of_step([OWN, Figure("layout", "cascade call", 0.245, "s")])

    assert share.value == pytest.approx(2.0)
    assert share.note == "2 % with embedding; beside a student call of 0.245 s"


def test_the_share_with_embedding_is_told_too() -> None:
    embedding = Figure("step", "embedding a step", 10.0, "ms CPU")

    share = share_of_step([OWN, embedding, Figure("layout", "cascade call", 0.485, "s")])

    assert share.value == pytest.approx(100 * 5 / 490)
    assert share.note.startswith("3 % with embedding")


def test_without_a_student_the_share_is_of_an_assumed_second_and_says_so() -> None:
    share = share_of_step([OWN])

    assert share.value == pytest.approx(100 * 5 / 1005)
    assert share.note.endswith("beside a student call of 1 s, assumed: no --student-url")


def test_a_report_is_a_markdown_block_and_a_json_document() -> None:
    machine = Machine("a processor", 2, 1.25, "3.11.7", {"numpy": "2.0"})
    skipped = Figure("layout", "hit rate", None, "", "skipped: no --student-url")

    report = BenchReport("tutelage bench", machine, (OWN, skipped))

    lines = report.markdown().splitlines()
    assert lines[0] == (
        "`tutelage bench` on a processor, 2 cores, load 1.2 at the start; Python 3.11.7, numpy 2.0."
    )
    assert "| step | total | 5 ms CPU | |" in lines
    assert "| layout | hit rate | - | skipped: no --student-url |" in lines
    document = json.loads(json.dumps(report.document()))
    assert document["machine"]["load"] == 1.25
    assert document["figures"][1]["value"] is None


def test_this_machine_is_described() -> None:
    machine = Machine.here()

    assert machine.processor
    assert machine.cores >= 1
    assert machine.packages["numpy"]
