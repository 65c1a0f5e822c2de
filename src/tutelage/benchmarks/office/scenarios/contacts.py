"""Contacts: looking up, keeping up to date, grouping."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.desk import Row
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting, full_name


def _phone(s: Setting) -> Assignment:
    person = s.one("contacts")
    phone = f"+1 555 {s.number(100, 999)} {s.number(1000, 9999)}"
    return Assignment(
        f"{full_name(person)} has a new phone number: {phone}. Update my contacts.",
        {"name": full_name(person), "phone": phone},
        [changed("contacts", person["id"], phone=phone)],
    )


def _add(s: Setting) -> Assignment:
    first, last = s.choice("Nadia", "Oscar", "Petra"), s.choice("Lindqvist", "Marsh", "Tanaka")
    email = f"{first}.{last}@work.example".lower()
    company, relation = s.choice("Northwind", "Tidewater"), s.choice("client", "trainer")
    return Assignment(
        f"Add {first} {last} to my contacts: email {email}, company {company}, "
        f"relation {relation}.",
        {"first": first, "last": last, "email": email, "company": company, "relation": relation},
        [
            added(
                "contacts",
                first_name=first,
                last_name=last,
                email=email,
                company=company,
                relation=relation,
                phone="",
                city="",
                birthday="",
                favourite=0,
            )
        ],
    )


def _birthday(s: Setting) -> Assignment:
    relation = s.choice("sister", "brother", "mother", "manager")
    person = s.one("contacts", "relation = ?", relation)
    return Assignment(
        f"When was my {relation} born? Answer as YYYY-MM-DD.",
        {"relation": relation},
        answer=person["birthday"],
    )


def _company_count(s: Setting) -> Assignment:
    company = s.one("contacts")["company"]
    return Assignment(
        f"How many of my contacts work at {company}?",
        {"company": company},
        answer=len(s.rows("contacts", "company = ?", company)),
    )


def _city_group(s: Setting) -> Assignment:
    city = s.one("contacts")["city"]
    people = s.rows("contacts", "city = ?", city)
    name = f"friends in {city}"
    group = s.rows("contact_groups")[-1]["id"] + 1
    return Assignment(
        f'Make a contact group "{name}" with everyone of my contacts who lives in {city}.',
        {"name": name, "city": city},
        [
            added("contact_groups", name=name),
            *(added("group_members", group_id=group, contact_id=one["id"]) for one in people),
        ],
    )


def _company_renamed(s: Setting) -> Assignment:
    old = s.one("contacts")["company"]
    new = s.choice("Harbour Group", "Sunfield", "Kestrel")
    return Assignment(
        f"{old} is now called {new}. Change the company of all my contacts who work there.",
        {"old": old, "new": new},
        [
            changed("contacts", one["id"], company=new)
            for one in s.rows("contacts", "company = ?", old)
        ],
    )


def _leave_group(s: Setting) -> Assignment:
    group = s.one("contact_groups")
    member = s.one("group_members", "group_id = ?", group["id"])
    person = s.rows("contacts", "id = ?", member["contact_id"])[0]
    return Assignment(
        f'{full_name(person)} has left the "{group["name"]}" group. Take them out of it.',
        {"name": full_name(person), "group": group["name"]},
        [removed("group_members", member["id"])],
    )


def _oldest(s: Setting) -> Assignment:
    group = s.one("contact_groups")
    members = s.rows(
        "contacts", "id IN (SELECT contact_id FROM group_members WHERE group_id = ?)", group["id"]
    )

    def born(person: Row) -> str:
        return str(person["birthday"])

    return Assignment(
        f'Who is the oldest person in my contact group "{group["name"]}"? '
        "Answer with the full name.",
        {"group": group["name"]},
        answer=full_name(min(members, key=born)),
    )


def _favourites(s: Setting) -> Assignment:
    relation = s.choice("friend", "coworker")
    people = s.rows("contacts", "relation = ? AND favourite = 0", relation)
    return Assignment(
        f"Make every contact who is a {relation} of mine a favourite.",
        {"relation": relation},
        [changed("contacts", one["id"], favourite=1) for one in people],
    )


_FIND_GROUP = """
> I look for the group.
groups = apis.contacts.list_groups(contacts_token)
group = [group for group in groups if group["name"] == $group][0]
members = apis.contacts.show_group(contacts_token, group_id=group["group_id"])
print(members)
"""

SCENARIOS = (
    Scenario(
        "update_phone",
        "train",
        "easy",
        _phone,
        """
> I look for the contact.
person = apis.contacts.search_contacts(contacts_token, query=$name)[0]
print(person)
> I change the number.
key = person["contact_id"]
print(apis.contacts.update_contact(contacts_token, contact_id=key, phone=$phone))
""",
    ),
    Scenario(
        "add_contact",
        "test",
        "easy",
        _add,
        """
> I add the contact.
print(apis.contacts.add_contact(contacts_token, first_name=$first, last_name=$last, email=$email,
    company=$company, relation=$relation))
""",
    ),
    Scenario(
        "find_birthday",
        "train",
        "easy",
        _birthday,
        """
> I look for the contact.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
print(person)
> The birthday stands in the details.
answer = apis.contacts.show_contact(contacts_token, contact_id=person["contact_id"])["birthday"]
print(answer)
""",
    ),
    Scenario(
        "count_company",
        "train",
        "easy",
        _company_count,
        """
> I collect the people of this company.
@pages people = apis.contacts.search_contacts(contacts_token, company=$company)
answer = len(people)
print(answer)
""",
    ),
    Scenario(
        "city_group",
        "test",
        "medium",
        _city_group,
        """
> I collect the people of this city.
@pages people = apis.contacts.search_contacts(contacts_token, city=$city)
print(people)
> I make the group and fill it.
group = apis.contacts.create_group(contacts_token, name=$name)["group_id"]
for person in people:
    key = person["contact_id"]
    apis.contacts.add_to_group(contacts_token, group_id=group, contact_id=key)
""",
    ),
    Scenario(
        "company_renamed",
        "train",
        "medium",
        _company_renamed,
        """
> I collect the people of this company.
@pages people = apis.contacts.search_contacts(contacts_token, company=$old)
print(people)
> I change their company.
for person in people:
    key = person["contact_id"]
    apis.contacts.update_contact(contacts_token, contact_id=key, company=$new)
""",
    ),
    Scenario(
        "leave_group",
        "dev",
        "medium",
        _leave_group,
        _FIND_GROUP
        + """
> I look for the person among them.
found = [one for one in members if one["first_name"] + " " + one["last_name"] == $name]
print(found)
> I take the person out.
group_id, contact_id = group["group_id"], found[0]["contact_id"]
print(apis.contacts.remove_from_group(contacts_token, group_id=group_id, contact_id=contact_id))
""",
    ),
    Scenario(
        "oldest_member",
        "test",
        "hard",
        _oldest,
        _FIND_GROUP
        + """
> The birthdays stand in the details.
people = []
for member in members:
    key = member["contact_id"]
    people.append(apis.contacts.show_contact(contacts_token, contact_id=key))
print([person["birthday"] for person in people])
> I take the earliest.
oldest = min(people, key=lambda person: person["birthday"])
answer = oldest["first_name"] + " " + oldest["last_name"]
print(answer)
""",
    ),
    Scenario(
        "make_favourites",
        "train",
        "hard",
        _favourites,
        """
> I collect the people.
@pages people = apis.contacts.search_contacts(contacts_token, relation=$relation)
print(people)
> I make them favourites.
for person in people:
    apis.contacts.set_favourite(contacts_token, contact_id=person["contact_id"])
""",
    ),
)
