"""Mail: finding, sorting, answering."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting, full_name


def _star(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = 'coworker'")
    subject = f"Contract {s.number(100, 999)}"
    mail = s.mail(person["email"], subject)
    s.mail(person["email"], f"{subject} (old)", starred=1)
    return Assignment(
        f'Give the mail with the subject "{subject}" in my inbox a star.',
        {"subject": subject},
        [changed("mails", mail, starred=1)],
    )


def _count_unread(s: Setting) -> Assignment:
    for number in range(s.number(2, 9)):
        s.mail("news@daily.example", f"Daily news {number}", read=0)
    count = len(s.rows("mails", "folder = 'inbox' AND read = 0"))
    return Assignment("How many unread mails are in my inbox?", answer=count)


def _archive_sender(s: Setting) -> Assignment:
    sender = s.choice("letter@chessweekly.example", "news@gardenclub.example", "hi@runners.example")
    mails = [s.mail(sender, f"Issue {number}") for number in range(s.number(2, 5))]
    return Assignment(
        f"Move all mails in my inbox from {sender} to the archive.",
        {"sender": sender},
        [changed("mails", mail, folder="archive") for mail in mails],
    )


def _reply(s: Setting) -> Assignment:
    relation = s.choice("manager", "assistant", "landlord")
    person = s.one("contacts", "relation = ?", relation)
    subject = s.choice("Visit next week", "Key for the cellar", "Numbers for March")
    s.mail(person["email"], "Earlier question", sent_at=f"{s.day(-30)} 10:00")
    s.mail(person["email"], subject, sent_at=f"{s.day(-1)} 18:30")
    text = s.choice("Thursday works for me.", "I will take care of it.", "Yes, please go ahead.")
    return Assignment(
        f'Reply to the latest mail from my {relation} in my inbox with "{text}"',
        {"relation": relation, "text": text},
        [
            added(
                "mails",
                folder="sent",
                recipients=person["email"],
                subject=f"Re: {subject}",
                body=text,
            )
        ],
    )


def _forward(s: Setting) -> Assignment:
    number = s.number(10_000, 99_999)
    sender = "billing@granite.example"
    mail = s.mail(sender, f"Invoice {number}", "Amount due: $ 120")
    s.mail(sender, f"Invoice {number + 7}", "Amount due: $ 80")
    relation = s.choice("assistant", "roommate", "brother")
    person = s.one("contacts", "relation = ?", relation)
    body = s.rows("mails", "id = ?", mail)[0]["body"]
    return Assignment(
        f"Forward the mail with invoice {number} to my {relation}, without a comment.",
        {"subject": f"Invoice {number}", "relation": relation},
        [
            added(
                "mails",
                folder="sent",
                recipients=person["email"],
                subject=f"Fwd: Invoice {number}",
                body=body,
            )
        ],
    )


def _label(s: Setting) -> Assignment:
    project = s.choice("Falcon", "Maple", "Comet")
    people = s.some(4, "contacts")
    mails = [
        s.mail(
            one["email"], s.choice("Status", "Open points", "Budget"), f"About project {project}."
        )
        for one in people
    ]
    return Assignment(
        f'Put the label "{project.lower()}" on every mail in my inbox that mentions '
        f"project {project}.",
        {"query": f"project {project}", "label": project.lower()},
        [changed("mails", mail, labels=project.lower()) for mail in mails],
    )


def _trash_offers(s: Setting) -> Assignment:
    for number in range(s.number(3, 6)):
        s.mail("deals@megashop.example", f"{number * 5 + 5} % off", "Only today.")
    found = s.rows("mails", "folder = 'inbox' AND subject LIKE '%\\% off%' ESCAPE '\\'")
    return Assignment(
        'Move every mail in my inbox whose subject has "% off" to the trash.',
        {},
        [changed("mails", mail["id"], folder="trash") for mail in found],
    )


def _send_draft(s: Setting) -> Assignment:
    topic = s.choice("Barbecue", "Choir practice", "Moving day", "Garage sale")
    person = s.one("contacts", "relation = 'friend'")
    own = s.desk.profile["email"]
    draft = s.add(
        "mails",
        folder="drafts",
        sender=own,
        recipients=person["email"],
        subject=topic,
        body="Are you in?",
        sent_at=f"{s.day(-2)} 09:00",
        read=1,
    )
    s.add(
        "mails",
        folder="drafts",
        sender=own,
        recipients=person["email"],
        subject="Unfinished",
        body="I wanted",
        sent_at=f"{s.day(-2)} 09:30",
        read=1,
    )
    return Assignment(
        f'I have a draft with the subject "{topic}". Send it.',
        {"topic": topic},
        [changed("mails", draft, folder="sent")],
    )


def _top_sender(s: Setting) -> Assignment:
    person = s.one("contacts")
    for number in range(9 + s.number(0, 3)):
        s.mail(person["email"], f"Again {number}")
    return Assignment(
        "Who wrote most of the mails in my inbox? Answer with the full name from my contacts.",
        answer=full_name(person),
    )


SCENARIOS = (
    Scenario(
        "star_mail",
        "train",
        "easy",
        _star,
        """
> I look for the mail by its subject.
mails = apis.mail.search_mail(mail_token, query=$subject)
mail = [mail for mail in mails if mail["subject"] == $subject][0]
print(mail)
> I give it a star.
print(apis.mail.star_mail(mail_token, mail_id=mail["mail_id"]))
""",
    ),
    Scenario(
        "count_unread",
        "test",
        "easy",
        _count_unread,
        """
> The mail app can count.
answer = apis.mail.count_mail(mail_token, folder="inbox", unread_only=True)["count"]
print(answer)
""",
    ),
    Scenario(
        "archive_sender",
        "train",
        "easy",
        _archive_sender,
        """
> I collect the mails of this sender.
mails = apis.mail.search_mail(mail_token, sender=$sender)
print(mails)
> I move them to the archive.
for mail in mails:
    apis.mail.move_mail(mail_token, mail_id=mail["mail_id"], folder="archive")
""",
    ),
    Scenario(
        "reply_latest",
        "train",
        "medium",
        _reply,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
print(person)
> The newest mail comes first.
mail = apis.mail.search_mail(mail_token, sender=person["email"])[0]
print(mail)
> I reply.
print(apis.mail.reply_to_mail(mail_token, mail_id=mail["mail_id"], body=$text))
""",
    ),
    Scenario(
        "forward_invoice",
        "test",
        "medium",
        _forward,
        """
> I look for the mail.
mail = apis.mail.search_mail(mail_token, query=$subject)[0]
print(mail)
> I need the email address to forward it to.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
print(person)
> I forward the mail.
print(apis.mail.forward_mail(mail_token, mail_id=mail["mail_id"], recipients=[person["email"]]))
""",
    ),
    Scenario(
        "label_project",
        "dev",
        "medium",
        _label,
        """
> I collect the mails that mention the project.
@pages mails = apis.mail.search_mail(mail_token, query=$query)
print(mails)
> I label them.
for mail in mails:
    apis.mail.label_mail(mail_token, mail_id=mail["mail_id"], label=$label)
""",
    ),
    Scenario(
        "trash_offers",
        "test",
        "medium",
        _trash_offers,
        """
> I collect the offers from all pages.
@pages mails = apis.mail.search_mail(mail_token, query="% off")
offers = [mail for mail in mails if "% off" in mail["subject"]]
print(offers)
> I move them to the trash.
for mail in offers:
    apis.mail.move_mail(mail_token, mail_id=mail["mail_id"], folder="trash")
""",
    ),
    Scenario(
        "send_draft",
        "train",
        "easy",
        _send_draft,
        """
> I look for the draft.
drafts = apis.mail.search_mail(mail_token, folder="drafts", query=$topic)
draft = [draft for draft in drafts if draft["subject"] == $topic][0]
print(draft)
> I send it.
print(apis.mail.send_draft(mail_token, mail_id=draft["mail_id"]))
""",
    ),
    Scenario(
        "top_sender",
        "test",
        "hard",
        _top_sender,
        """
> I count the senders of all pages.
from collections import Counter
@pages mails = apis.mail.search_mail(mail_token)
sender = Counter(mail["sender"] for mail in mails).most_common(1)[0][0]
print(sender)
> I look the sender up.
person = apis.contacts.search_contacts(contacts_token, query=sender)[0]
answer = person["first_name"] + " " + person["last_name"]
print(answer)
""",
    ),
)
