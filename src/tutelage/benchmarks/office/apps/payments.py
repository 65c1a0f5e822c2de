"""Payments between people."""

from __future__ import annotations

from tutelage.benchmarks.office.app import ApiRefused, LoginApp, one_of, reads, writes
from tutelage.benchmarks.office.desk import Row

_DIRECTIONS = ("", "sent", "received")
_STATES = ("", "open", "paid", "declined", "cancelled")


class Payments(LoginApp):
    """Money sent, received and asked for; amounts are US dollars."""

    name = "payments"
    description = "Sends money to people, asks them for money, and lists what was paid."

    @reads
    def show_balance(self) -> Row:
        """Shows how much money there is.

        Returns:
            balance
        """
        return {"balance": self._balance_cents() / 100}

    @reads
    def list_transfers(
        self, direction: str = "", person: str = "", since: str = "", until: str = "", page: int = 0
    ) -> list[Row]:
        """Lists payments that were made, newest first; all conditions must hold.

        Args:
            direction: sent or received; empty for both.
            person: Email address of the other person.
            since: First day, as YYYY-MM-DD.
            until: Last day, as YYYY-MM-DD.
            page: Pages of 10, counted from 0.

        Returns:
            list of transfer_id, direction, person, amount, note, made_at
        """
        one_of("direction", direction, _DIRECTIONS)
        found = self._page(
            "SELECT id AS transfer_id, direction, person, amount_cents / 100.0 AS amount, note,"
            " made_at FROM transfers WHERE ? IN ('', direction) AND ? IN ('', person)"
            " AND made_at >= ? AND (? = '' OR substr(made_at, 1, 10) <= ?)"
            " ORDER BY made_at DESC, id DESC",
            page,
            *(direction, person, since, until, until),
        )
        return found

    @reads
    def show_transfer(self, transfer_id: int) -> Row:
        """Shows one payment and the card it was made with.

        Args:
            transfer_id: Id of the payment.

        Returns:
            transfer_id, direction, person, amount, note, made_at, card
        """
        found = self._get("transfers", transfer_id, "transfer")
        amount = found.pop("amount_cents") / 100
        return {"transfer_id": found.pop("id"), **found, "amount": amount}

    @writes
    def send_money(self, person: str, amount: float, note: str = "") -> Row:
        """Pays a person.

        Args:
            person: Email address.
            amount: Dollars, above 0.
            note: What it is for.

        Returns:
            transfer_id
        """
        return {"transfer_id": self._pay(person, _cents(amount), note)}

    @writes
    def request_money(self, person: str, amount: float, note: str = "") -> Row:
        """Asks a person for money.

        Args:
            person: Email address.
            amount: Dollars, above 0.
            note: What it is for.

        Returns:
            request_id
        """
        _check_person(person)
        key = self.desk.insert(
            "money_requests",
            direction="outgoing",
            person=person,
            amount_cents=_cents(amount),
            note=note,
            state="open",
            made_at=self.desk.now,
        )
        return {"request_id": key}

    @reads
    def list_requests(self, direction: str, state: str = "open", page: int = 0) -> list[Row]:
        """Lists requests for money, newest first.

        Args:
            direction: incoming for those the user is asked to pay, outgoing for the user's own.
            state: open, paid, declined or cancelled; empty for all.
            page: Pages of 10, counted from 0.

        Returns:
            list of request_id, direction, person, amount, note, state, made_at
        """
        one_of("direction", direction, ("incoming", "outgoing"))
        one_of("state", state, _STATES)
        return self._page(
            "SELECT id AS request_id, direction, person, amount_cents / 100.0 AS amount, note,"
            " state, made_at FROM money_requests WHERE direction = ? AND ? IN ('', state)"
            " ORDER BY made_at DESC, id DESC",
            page,
            *(direction, state),
        )

    @writes
    def pay_request(self, request_id: int) -> Row:
        """Pays an open request of another person.

        Args:
            request_id: Id of the request.

        Returns:
            transfer_id
        """
        found = self._open(request_id, "incoming")
        key = self._pay(found["person"], found["amount_cents"], found["note"])
        self.desk.update("money_requests", request_id, state="paid")
        return {"transfer_id": key}

    @writes
    def decline_request(self, request_id: int) -> Row:
        """Turns down an open request of another person.

        Args:
            request_id: Id of the request.

        Returns:
            message
        """
        self._open(request_id, "incoming")
        self.desk.update("money_requests", request_id, state="declined")
        return {"message": "The request is declined."}

    @writes
    def cancel_request(self, request_id: int) -> Row:
        """Takes back an open request of the user.

        Args:
            request_id: Id of the request.

        Returns:
            message
        """
        self._open(request_id, "outgoing")
        self.desk.update("money_requests", request_id, state="cancelled")
        return {"message": "The request is cancelled."}

    @reads
    def list_cards(self) -> list[Row]:
        """Lists the user's cards.

        Returns:
            list of card_id, label, last_digits, expires (YYYY-MM), is_default
        """
        found = self.desk.rows(
            "SELECT id AS card_id, label, last_digits, expires, is_default FROM cards ORDER BY id"
        )
        return [{**card, "is_default": bool(card["is_default"])} for card in found]

    @writes
    def set_default_card(self, card_id: int) -> Row:
        """Makes a card the one that payments are made with.

        Args:
            card_id: Id of the card.

        Returns:
            message
        """
        self._get("cards", card_id, "card")
        self.desk.write("UPDATE cards SET is_default = (id = ?)", card_id)
        return {"message": "The card is the default."}

    @writes
    def remove_card(self, card_id: int) -> Row:
        """Removes a card that is not the default.

        Args:
            card_id: Id of the card.

        Returns:
            message
        """
        if self._get("cards", card_id, "card")["is_default"]:
            raise ApiRefused(409, "the default card cannot be removed")
        self.desk.write("DELETE FROM cards WHERE id = ?", card_id)
        return {"message": "The card is removed."}

    def _balance_cents(self) -> int:
        found = self.desk.row(
            "SELECT COALESCE(SUM(CASE direction WHEN 'sent' THEN -amount_cents"
            " ELSE amount_cents END), 0) AS moved FROM transfers"
        )
        return int(self.desk.profile["opening_cents"]) + int((found or {})["moved"])

    def _pay(self, person: str, cents: int, note: str) -> int:
        _check_person(person)
        if cents > self._balance_cents():
            raise ApiRefused(409, "the balance is too low")
        card = self.desk.row("SELECT last_digits FROM cards WHERE is_default") or {}
        return self.desk.insert(
            "transfers",
            direction="sent",
            person=person,
            amount_cents=cents,
            note=note,
            made_at=self.desk.now,
            card=card.get("last_digits", ""),
        )

    def _open(self, request_id: int, direction: str) -> Row:
        found = self._get("money_requests", request_id, "request")
        if (found["direction"], found["state"]) != (direction, "open"):
            raise ApiRefused(409, f"the request is no open {direction} one")
        return found


def _cents(amount: float) -> int:
    # No amount is above a million: what is asked for must fit the database.
    if not 0 < amount <= 1_000_000:
        raise ApiRefused(422, "amount must be above 0 and at most 1000000")
    return round(amount * 100)


def _check_person(person: str) -> None:
    if "@" not in person:
        raise ApiRefused(422, "person must be an email address")
