"""Payments: sending, asking, paying, counting."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting, full_name


def _balance(s: Setting) -> Assignment:
    cents = s.desk.profile["opening_cents"]
    for row in s.rows("transfers"):
        cents += row["amount_cents"] * (-1 if row["direction"] == "sent" else 1)
    return Assignment("How many dollars are on my payments account?", answer=cents / 100)


def _send(s: Setting) -> Assignment:
    relation = s.choice("sister", "roommate", "dentist", "landlord")
    person = s.one("contacts", "relation = ?", relation)
    amount, note = s.number(5, 90), s.choice("thank you", "for the tickets", "as agreed")
    return Assignment(
        f'Send my {relation} ${amount} with the note "{note}".',
        {"relation": relation, "amount": amount, "note": note},
        [
            added(
                "transfers",
                direction="sent",
                person=person["email"],
                amount_cents=amount * 100,
                note=note,
            )
        ],
    )


def _pay_request(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = 'mother'")
    cents = s.number(1000, 4000)
    note = s.choice("theatre", "flowers", "cake")
    request = s.add(
        "money_requests",
        direction="incoming",
        person=person["email"],
        amount_cents=cents,
        note=note,
        state="open",
        made_at=f"{s.day(-2)} 10:00",
    )
    return Assignment(
        f'My mother asked me for money for "{note}". Pay it.',
        {"note": note},
        [
            changed("money_requests", request, state="paid"),
            added(
                "transfers", direction="sent", person=person["email"], amount_cents=cents, note=note
            ),
        ],
    )


def _decline(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = 'friend'")
    for number in range(s.number(2, 4)):
        s.add(
            "money_requests",
            direction="incoming",
            person=person["email"],
            amount_cents=500 + number,
            note="bet",
            state="open",
            made_at=f"{s.day(-3)} 12:0{number}",
        )
    found = s.rows(
        "money_requests",
        "direction = 'incoming' AND state = 'open' AND person = ?",
        person["email"],
    )
    return Assignment(
        f"Decline all open money requests from {full_name(person)}.",
        {"name": full_name(person)},
        [changed("money_requests", row["id"], state="declined") for row in found],
    )


def _total_sent(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = 'coworker'")
    since = s.day(-30)
    for number in range(12):
        s.add(
            "transfers",
            direction="sent",
            person=person["email"],
            amount_cents=s.number(200, 3000),
            note="lunch",
            made_at=f"{s.day(-number * 4 - 1)} 13:{number:02}",
            card="1111",
        )
    found = s.rows(
        "transfers", "direction = 'sent' AND person = ? AND made_at >= ?", person["email"], since
    )
    return Assignment(
        f"How much money have I sent to {full_name(person)} since {since}, that day included?",
        {"name": full_name(person), "since": since},
        answer=sum(row["amount_cents"] for row in found) / 100,
    )


def _split(s: Setting) -> Assignment:
    group = s.one("contact_groups")
    members = s.rows(
        "contacts", "id IN (SELECT contact_id FROM group_members WHERE group_id = ?)", group["id"]
    )
    share = s.number(4, 20)
    what = s.choice("boat rental", "snacks", "new board")
    return Assignment(
        f"I paid ${share * (len(members) + 1)} for the {what}. I share it equally with the members "
        f'of my contact group "{group["name"]}": ask each of them for their part, with the note '
        f'"{what}". I am not in the group, but I pay a part, too.',
        {"group": group["name"], "total": share * (len(members) + 1), "what": what},
        [
            added(
                "money_requests",
                direction="outgoing",
                person=one["email"],
                amount_cents=share * 100,
                note=what,
                state="open",
            )
            for one in members
        ],
    )


def _cancel_old(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = 'friend'")
    for number in range(s.number(2, 4)):
        s.add(
            "money_requests",
            direction="outgoing",
            person=person["email"],
            amount_cents=700 + number,
            note="pizza",
            state="open",
            made_at=f"{s.day(-60 - number)} 12:00",
        )
    limit = s.day(-30)
    found = s.rows(
        "money_requests", "direction = 'outgoing' AND state = 'open' AND made_at < ?", limit
    )
    return Assignment(
        f"Cancel all my own open money requests that I made before {limit}.",
        {"limit": limit},
        [changed("money_requests", row["id"], state="cancelled") for row in found],
    )


def _default_card(s: Setting) -> Assignment:
    label = s.choice("credit", "travel")
    card = s.one("cards", "label = ?", label)
    old = s.one("cards", "is_default = 1")
    return Assignment(
        f"Make my {label} card the default card for payments.",
        {"label": label},
        [changed("cards", card["id"], is_default=1), changed("cards", old["id"], is_default=0)],
    )


def _expired_cards(s: Setting) -> Assignment:
    cards = [
        s.add(
            "cards",
            label=label,
            last_digits=str(s.number(1000, 9999)),
            expires=f"{s.number(2019, 2025)}-0{s.number(1, 9)}",
            is_default=0,
        )
        for label in ("old debit", "gift")[: s.number(1, 2)]
    ]
    return Assignment(
        "Remove all cards that have expired from my payments account.",
        {},
        [removed("cards", card) for card in cards],
    )


def _biggest(s: Setting) -> Assignment:
    person = s.one("contacts")
    s.add(
        "transfers",
        direction="received",
        person=person["email"],
        amount_cents=s.number(10_000, 20_000),
        note="gift",
        made_at=f"{s.day(-70)} 10:00",
        card="1111",
    )
    return Assignment(
        "Who sent me the largest single payment ever? Answer with the full name from my contacts.",
        answer=full_name(person),
    )


SCENARIOS = (
    Scenario(
        "show_balance",
        "train",
        "easy",
        _balance,
        """
> The payments app shows the balance.
answer = apis.payments.show_balance(payments_token)["balance"]
print(answer)
""",
    ),
    Scenario(
        "send_money",
        "train",
        "easy",
        _send,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
print(person)
> I send the money.
print(apis.payments.send_money(payments_token, person=person["email"], amount=$amount, note=$note))
""",
    ),
    Scenario(
        "pay_request",
        "test",
        "easy",
        _pay_request,
        """
> I need my mother's email address.
mother = apis.contacts.search_contacts(contacts_token, relation="mother")[0]
print(mother)
> I look for the request.
requests = apis.payments.list_requests(payments_token, direction="incoming")
mine = [r for r in requests if r["person"] == mother["email"] and r["note"] == $note]
print(mine)
> I pay it.
print(apis.payments.pay_request(payments_token, request_id=mine[0]["request_id"]))
""",
    ),
    Scenario(
        "decline_requests",
        "train",
        "medium",
        _decline,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, query=$name)[0]
print(person)
> I collect the open requests of this person.
@pages requests = apis.payments.list_requests(payments_token, direction="incoming")
theirs = [request for request in requests if request["person"] == person["email"]]
print(theirs)
> I decline them.
for request in theirs:
    apis.payments.decline_request(payments_token, request_id=request["request_id"])
""",
    ),
    Scenario(
        "total_sent",
        "test",
        "medium",
        _total_sent,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, query=$name)[0]
print(person)
> I collect the payments from all pages.
email = person["email"]
@pages made = apis.payments.list_transfers(payments_token, person=email, since=$since)
answer = round(sum(one["amount"] for one in made if one["direction"] == "sent"), 2)
print(answer)
""",
    ),
    Scenario(
        "split_bill",
        "dev",
        "hard",
        _split,
        """
> I look for the group.
groups = apis.contacts.list_groups(contacts_token)
group = [group for group in groups if group["name"] == $group][0]
print(group)
> I list its members and compute the share.
members = apis.contacts.show_group(contacts_token, group_id=group["group_id"])
share = $total / (len(members) + 1)
print(share, members)
> I ask each member.
for member in members:
    apis.payments.request_money(payments_token, person=member["email"], amount=share, note=$what)
""",
    ),
    Scenario(
        "cancel_old_requests",
        "train",
        "medium",
        _cancel_old,
        """
> I collect my open requests.
@pages requests = apis.payments.list_requests(payments_token, direction="outgoing")
old = [request for request in requests if request["made_at"] < $limit]
print(old)
> I cancel them.
for request in old:
    apis.payments.cancel_request(payments_token, request_id=request["request_id"])
""",
    ),
    Scenario(
        "default_card",
        "train",
        "easy",
        _default_card,
        """
> I list the cards.
cards = apis.payments.list_cards(payments_token)
print(cards)
> I make the right one the default.
card = [card for card in cards if card["label"] == $label][0]
print(apis.payments.set_default_card(payments_token, card_id=card["card_id"]))
""",
    ),
    Scenario(
        "expired_cards",
        "test",
        "medium",
        _expired_cards,
        """
> I list the cards and look at the date.
month = apis.supervisor.show_today()[:7]
cards = apis.payments.list_cards(payments_token)
expired = [card for card in cards if card["expires"] < month]
print(expired)
> I remove the expired ones.
for card in expired:
    apis.payments.remove_card(payments_token, card_id=card["card_id"])
""",
    ),
    Scenario(
        "largest_payment",
        "train",
        "medium",
        _biggest,
        """
> I collect all payments that I received.
@pages received = apis.payments.list_transfers(payments_token, direction="received")
largest = max(received, key=lambda transfer: transfer["amount"])
print(largest)
> I look the sender up.
person = apis.contacts.search_contacts(contacts_token, query=largest["person"])[0]
answer = person["first_name"] + " " + person["last_name"]
print(answer)
""",
    ),
)
