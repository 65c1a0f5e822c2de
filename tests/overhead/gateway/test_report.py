from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from tutelage.overhead.gateway.cascade import Cascade, CascadeWindow
from tutelage.overhead.gateway.contenders import Missing
from tutelage.overhead.gateway.picture import draw
from tutelage.overhead.gateway.report import COLUMNS, GatewayReport, number
from tutelage.overhead.gateway.run import Measured, Plan
from tutelage.overhead.gateway.soak import Soak
from tutelage.overhead.gateway.stalls import Stalls
from tutelage.overhead.gateway.windows import Case, Window
from tutelage.overhead.report import Machine
from tutelage.runtime.errors import MissingExtra

NAN = float("nan")
UNARY = Case(False, 16)
CASCADE = Cascade(
    demonstrations=1000,
    windows=(
        CascadeWindow("c1", 1, 400, 0, 90.0, 10.0, 20.0, 8.0, NAN, 9000.0),
        CascadeWindow("on 0", 16, 400, 2, 90.0, 10.0, 20.0, 8.0, 15.0, 9000.0),
    ),
    stalls={"c1": Stalls(1000, 1.5, 4.0, 2.0, 0), "c16": None},
    health_p50_ms=1.0,
    health_most_ms=30.0,
    rps_on_over_off=0.95,
)


@pytest.fixture
def measured(window: Callable[..., Window]) -> Measured:
    return Measured(
        plan=Plan(),
        duration_s=120.0,
        versions={"direct": "compiled", "reference": "uvicorn 1", "tutelage": "1.2"},
        missing=(Missing("litellm", "skipped: no room"),),
        windows=(
            window("direct", UNARY, rps=1000.0, cpu_us=None),
            window("reference", UNARY, p50_ms=4.0),
            window("tutelage", UNARY, cpu_us=190.0, p50_ms=5.0, failed=3),
            window("portkey", UNARY, cpu_us=None, rps=0.0, p50_ms=NAN, completed=0, failed=2),
        ),
        cascade=CASCADE,
        soak=Soak(25, 25, 5, (0, 50), (100.0, 104.0)),
    )


@pytest.fixture
def report(measured: Measured) -> GatewayReport:
    machine = Machine("a processor", 2, 0.25, "3.11.7", {"numpy": "2.0"})
    return GatewayReport("tutelage bench gateway", machine, 1.5, measured)


def test_a_row_tells_ratios_and_failures(report: GatewayReport) -> None:
    rows = {row[1]: dict(zip(COLUMNS, row, strict=True)) for row in report.rows()}

    assert rows["tutelage"]["+p50 ms"] == "4"
    assert rows["tutelage"]["failed"] == "3"
    assert rows["tutelage"]["/ reference"] == "1.9"
    assert rows["portkey"]["RPS"] == "-"
    assert rows["direct"]["CPU us"] == "-"


def test_notes_tell_versions_and_what_went_wrong(report: GatewayReport) -> None:
    notes = report.notes()

    assert "tutelage: 1.2" in notes
    assert "litellm: skipped: no room" in notes
    assert "tutelage: not answered with 200: 3 with 500" in notes
    assert "portkey: not answered with 200: 2 with 500" in notes
    assert any(
        note.endswith("c1: p99 1.5 ms, longest 4 ms, 0 of 1,000 above 5 ms") for note in notes
    )
    assert any(note.endswith("c16: the probe did not run") for note in notes)


def test_a_stream_that_broke_off_and_no_answer_are_told(
    report: GatewayReport, measured: Measured, window: Callable[..., Window]
) -> None:
    broken = replace(window("tutelage", UNARY, failed=3), statuses={0: 1, 200: 12})

    notes = replace(report, measured=replace(measured, windows=(broken,))).notes()

    assert "tutelage: not answered with 200: 1 with no status, 2 broken off" in notes


def test_who_was_gone_is_told(
    report: GatewayReport, measured: Measured, window: Callable[..., Window]
) -> None:
    gone = window("litellm", UNARY, rps=0.0, cpu_us=None, p50_ms=NAN, completed=0)

    notes = replace(report, measured=replace(measured, windows=(gone, gone))).notes()

    assert "litellm: was gone in 2 windows" in notes


def test_a_report_is_json(report: GatewayReport) -> None:
    document = json.loads(json.dumps(report.document(), allow_nan=False))

    assert document["machine"]["load"] == 0.25
    assert document["load_at_end"] == 1.5
    assert document["missing"] == [{"name": "litellm", "reason": "skipped: no room"}]
    assert len(document["windows"]) == 4
    assert document["windows"][3]["p50_ms"] is None
    assert document["windows"][2]["statuses"] == {"200": 10, "500": 3}
    assert document["cascade"]["windows"][0]["overhead_p99_ms"] is None
    assert document["soak"]["growth"] == pytest.approx(0.04)
    met = {bar["name"]: bar["is_met"] for bar in document["bars"]}
    assert met["CPU a request over the reference, unary c16"] is True
    assert met["CPU a request over the reference, stream c16"] is None


def test_a_report_is_a_block_of_markdown(report: GatewayReport) -> None:
    lines = report.markdown().splitlines()

    assert lines[0].startswith(
        "`tutelage bench gateway`: a processor, 2 cores, load 0.2 at the start and 1.5 at the end"
    )
    assert "5 rounds of 2 s windows in random order, 2 minutes in all." in lines[0]
    assert any("| growth of memory | 4 % | at most 5 % | met |" in line for line in lines)
    assert any(line.startswith("| tracing on, c1 | 90 |") for line in lines)
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_parts_that_did_not_run_have_no_table(report: GatewayReport, measured: Measured) -> None:
    bare = replace(report, measured=replace(measured, windows=(), cascade=None, soak=None))

    assert bare.rows() == bare.cascade_rows() == []
    document = bare.document()
    assert document["cascade"] is None
    assert document["soak"] is None
    assert bare.markdown().count("| bar |") == 1
    assert "| setting |" not in bare.markdown()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (NAN, "-"), (0.0123456, "0.0123"), (99.94, "99.9"), (12345.6, "12,346")],
)
def test_a_number_has_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_run_is_a_picture(measured: Measured) -> None:
    pytest.importorskip("matplotlib")

    picture = draw(measured, "svg")

    assert b"<svg" in picture
    assert draw(measured, "svg") == picture
    assert draw(measured).startswith(b"\x89PNG")
    assert draw(replace(measured, windows=(), versions={}, soak=None)).startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_picture(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MissingExtra, match="matplotlib"):
        draw(measured)
