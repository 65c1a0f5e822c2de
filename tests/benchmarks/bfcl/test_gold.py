from __future__ import annotations

from tutelage.benchmarks.bfcl.calls import Call
from tutelage.benchmarks.bfcl.gold import CALLS_A_TURN, Gold

LS, CD, CAT = Call("ls", {}), Call("cd", {"folder": "a"}), Call("cat", {"file_name": "b"})


def gold() -> Gold:
    return Gold([[LS, CD], [], [CAT]], [["x", "in a"], [], ["text"]])


def test_calls_are_named_in_their_order_and_then_none() -> None:
    told = gold()
    assert told.ask() == (LS,)
    told.saw(LS, "x")
    assert told.ask() == (CD,)
    told.saw(CD, "in a")
    assert told.ask() == ()


def test_calls_in_another_order_and_calls_besides_count() -> None:
    told = gold()
    told.saw(CD, "in a")
    told.saw(CAT, "no such file")
    assert told.ask() == (LS,)


def test_a_call_that_gave_something_else_is_named_once_more() -> None:
    told = gold()
    told.saw(LS, "other files")
    assert told.ask() == (LS,)
    told.saw(LS, "other files")
    assert told.ask() == (CD,)


def test_a_new_turn_drops_what_is_left() -> None:
    told = gold()
    told.turn(1)
    assert told.ask() == ()
    told.turn(2)
    assert told.ask() == (CAT,)


def test_a_turn_of_many_calls_gets_them_at_once() -> None:
    many = [Call("rm", {"file_name": str(number)}) for number in range(CALLS_A_TURN + 1)]
    told = Gold([many], [["gone"] * len(many)])
    assert told.ask() == tuple(many)
