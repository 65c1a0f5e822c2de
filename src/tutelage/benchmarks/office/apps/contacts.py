"""The address book."""

from __future__ import annotations

from tutelage.benchmarks.office.app import ApiRefused, LoginApp, pattern, reads, writes
from tutelage.benchmarks.office.desk import Row

_BRIEF = "id AS contact_id, first_name, last_name, email, relation, company, city"


class Contacts(LoginApp):
    """People and groups of people."""

    name = "contacts"
    description = "The address book: people, how they are related to the user, and groups."

    @reads
    def search_contacts(
        self, query: str = "", relation: str = "", company: str = "", city: str = "", page: int = 0
    ) -> list[Row]:
        """Finds people, sorted by last name; all conditions must hold.

        Args:
            query: Text in the full name or the email; empty finds all.
            relation: Exact relation to the user, such as manager, coworker, friend or sister.
            company: Exact name of the company.
            city: Exact name of the city.
            page: Pages of 10, counted from 0.

        Returns:
            list of contact_id, first_name, last_name, email, relation, company, city
        """
        return self._page(
            f"SELECT {_BRIEF} FROM contacts WHERE (first_name || ' ' || last_name || ' ' || email)"
            " LIKE ? ESCAPE '!' AND ? IN ('', relation) AND ? IN ('', company)"
            " AND ? IN ('', city) ORDER BY last_name, first_name, id",
            page,
            *(pattern(query), relation, company, city),
        )

    @reads
    def show_contact(self, contact_id: int) -> Row:
        """Shows everything that is known of a person.

        Args:
            contact_id: Id of the contact.

        Returns:
            contact_id, first_name, last_name, email, phone, company, city, birthday, relation,
            favourite
        """
        found = self._get("contacts", contact_id, "contact")
        return {"contact_id": found.pop("id"), **found, "favourite": bool(found["favourite"])}

    @writes
    def add_contact(
        self,
        first_name: str,
        last_name: str,
        email: str,
        phone: str = "",
        company: str = "",
        city: str = "",
        birthday: str = "",
        relation: str = "",
    ) -> Row:
        """Adds a person.

        Args:
            first_name: First name.
            last_name: Last name.
            email: Email address; no two contacts share one.
            phone: Phone number.
            company: Where the person works.
            city: Where the person lives.
            birthday: As YYYY-MM-DD.
            relation: Relation to the user.

        Returns:
            contact_id
        """
        if self.desk.row("SELECT 1 FROM contacts WHERE email = ?", email):
            raise ApiRefused(409, f"there is a contact with the email {email}")
        key = self.desk.insert(
            "contacts",
            first_name=first_name,
            last_name=last_name,
            email=email,
            phone=phone,
            company=company,
            city=city,
            birthday=birthday,
            relation=relation,
        )
        return {"contact_id": key}

    @writes
    def update_contact(
        self,
        contact_id: int,
        email: str | None = None,
        phone: str | None = None,
        company: str | None = None,
        city: str | None = None,
        birthday: str | None = None,
        relation: str | None = None,
    ) -> Row:
        """Changes what is given; the rest stays.

        Args:
            contact_id: Id of the contact.
            email: New email address.
            phone: New phone number.
            company: New company.
            city: New city.
            birthday: New birthday as YYYY-MM-DD.
            relation: New relation.

        Returns:
            message
        """
        self._get("contacts", contact_id, "contact")
        given = {
            "email": email,
            "phone": phone,
            "company": company,
            "city": city,
            "birthday": birthday,
            "relation": relation,
        }
        self.desk.update(
            "contacts", contact_id, **{n: v for n, v in given.items() if v is not None}
        )
        return {"message": "The contact is changed."}

    @writes
    def delete_contact(self, contact_id: int) -> Row:
        """Deletes a person, also from all groups.

        Args:
            contact_id: Id of the contact.

        Returns:
            message
        """
        self._get("contacts", contact_id, "contact")
        self.desk.write("DELETE FROM group_members WHERE contact_id = ?", contact_id)
        self.desk.write("DELETE FROM contacts WHERE id = ?", contact_id)
        return {"message": "The contact is deleted."}

    @writes
    def set_favourite(self, contact_id: int, favourite: bool = True) -> Row:
        """Makes a person a favourite, or no favourite any more.

        Args:
            contact_id: Id of the contact.
            favourite: Whether it is one.

        Returns:
            message
        """
        self._get("contacts", contact_id, "contact")
        self.desk.update("contacts", contact_id, favourite=int(favourite))
        return {"message": "The contact is changed."}

    @reads
    def list_groups(self) -> list[Row]:
        """Lists all groups of contacts.

        Returns:
            list of group_id, name, members (their number)
        """
        return self.desk.rows(
            "SELECT g.id AS group_id, g.name, COUNT(m.id) AS members FROM contact_groups g"
            " LEFT JOIN group_members m ON m.group_id = g.id GROUP BY g.id ORDER BY g.id"
        )

    @reads
    def show_group(self, group_id: int) -> list[Row]:
        """Lists the members of a group.

        Args:
            group_id: Id of the group.

        Returns:
            list of contact_id, first_name, last_name, email, relation, company, city
        """
        self._get("contact_groups", group_id, "group")
        return self.desk.rows(
            f"SELECT {_BRIEF.replace('id AS', 'c.id AS')} FROM contacts c JOIN group_members m"
            " ON m.contact_id = c.id WHERE m.group_id = ? ORDER BY c.last_name, c.first_name",
            group_id,
        )

    @writes
    def create_group(self, name: str) -> Row:
        """Creates an empty group.

        Args:
            name: Name of the group; no two groups share one.

        Returns:
            group_id
        """
        if self.desk.row("SELECT 1 FROM contact_groups WHERE name = ?", name):
            raise ApiRefused(409, f"there is a group {name!r}")
        return {"group_id": self.desk.insert("contact_groups", name=name)}

    @writes
    def add_to_group(self, group_id: int, contact_id: int) -> Row:
        """Puts a person into a group.

        Args:
            group_id: Id of the group.
            contact_id: Id of the contact.

        Returns:
            message
        """
        self._get("contact_groups", group_id, "group")
        self._get("contacts", contact_id, "contact")
        if self._membership(group_id, contact_id):
            raise ApiRefused(409, "the contact is in the group already")
        self.desk.insert("group_members", group_id=group_id, contact_id=contact_id)
        return {"message": "The contact is in the group."}

    @writes
    def remove_from_group(self, group_id: int, contact_id: int) -> Row:
        """Takes a person out of a group.

        Args:
            group_id: Id of the group.
            contact_id: Id of the contact.

        Returns:
            message
        """
        found = self._membership(group_id, contact_id)
        if found is None:
            raise ApiRefused(404, "the contact is not in the group")
        self.desk.write("DELETE FROM group_members WHERE id = ?", found["id"])
        return {"message": "The contact is out of the group."}

    def _membership(self, group_id: int, contact_id: int) -> Row | None:
        return self.desk.row(
            "SELECT id FROM group_members WHERE group_id = ? AND contact_id = ?",
            *(group_id, contact_id),
        )
