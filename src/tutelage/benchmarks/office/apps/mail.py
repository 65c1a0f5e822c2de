"""Mail."""

from __future__ import annotations

from tutelage.benchmarks.office.app import (
    ApiRefused,
    LoginApp,
    joined,
    one_of,
    pattern,
    reads,
    words,
    writes,
)
from tutelage.benchmarks.office.desk import Row

FOLDERS = ("inbox", "sent", "drafts", "archive", "trash")
_BRIEF = "id AS mail_id, sender, recipients, subject, sent_at, read, starred, labels"


class Mail(LoginApp):
    """Mails in folders."""

    name = "mail"
    description = "Reads, sorts and sends mail."

    @reads
    def search_mail(
        self,
        folder: str = "inbox",
        query: str = "",
        sender: str = "",
        label: str = "",
        unread_only: bool = False,
        page: int = 0,
    ) -> list[Row]:
        """Finds mails in a folder, newest first; all conditions must hold.

        Args:
            folder: inbox, sent, drafts, archive or trash.
            query: Text in subject or body; empty finds all.
            sender: Exact email address of the sender.
            label: A label that the mail has.
            unread_only: Whether mails that were read are left out.
            page: Pages of 10, counted from 0.

        Returns:
            list of mail_id, sender, recipients, subject, sent_at, read, starred, labels
        """
        one_of("folder", folder, FOLDERS)
        found = self._page(
            f"SELECT {_BRIEF} FROM mails WHERE folder = ?"
            " AND (subject || char(10) || body) LIKE ? ESCAPE '!' AND ? IN ('', sender)"
            " AND (? = '' OR (', ' || labels || ',') LIKE ? ESCAPE '!') AND read <= ?"
            " ORDER BY sent_at DESC, id DESC",
            page,
            *(folder, pattern(query), sender, label, pattern(f", {label},"), int(not unread_only)),
        )
        return [_shown(mail) for mail in found]

    @reads
    def show_mail(self, mail_id: int) -> Row:
        """Shows one mail with its text.

        Args:
            mail_id: Id of the mail.

        Returns:
            mail_id, folder, sender, recipients, subject, body, sent_at, read, starred, labels
        """
        found = self._get("mails", mail_id, "mail")
        del found["reply_to"]
        return _shown({"mail_id": found.pop("id"), **found})

    @reads
    def count_mail(self, folder: str = "inbox", unread_only: bool = False) -> Row:
        """Counts the mails of a folder.

        Args:
            folder: inbox, sent, drafts, archive or trash.
            unread_only: Whether only unread ones count.

        Returns:
            count
        """
        one_of("folder", folder, FOLDERS)
        found = self.desk.row(
            "SELECT COUNT(*) AS count FROM mails WHERE folder = ? AND read <= ?",
            *(folder, int(not unread_only)),
        )
        return found or {}

    @writes
    def send_mail(self, recipients: list[str], subject: str, body: str) -> Row:
        """Sends a mail.

        Args:
            recipients: Email addresses.
            subject: Subject.
            body: Text.

        Returns:
            mail_id
        """
        return {"mail_id": self._write("sent", recipients, subject, body)}

    @writes
    def save_draft(self, recipients: list[str], subject: str, body: str) -> Row:
        """Keeps a mail in the drafts without sending it.

        Args:
            recipients: Email addresses.
            subject: Subject.
            body: Text.

        Returns:
            mail_id
        """
        return {"mail_id": self._write("drafts", recipients, subject, body)}

    @writes
    def send_draft(self, mail_id: int) -> Row:
        """Sends a mail of the drafts.

        Args:
            mail_id: Id of the draft.

        Returns:
            message
        """
        if self._get("mails", mail_id, "mail")["folder"] != "drafts":
            raise ApiRefused(409, "the mail is no draft")
        self.desk.update("mails", mail_id, folder="sent", sent_at=self.desk.now)
        return {"message": "The draft is sent."}

    @writes
    def reply_to_mail(self, mail_id: int, body: str) -> Row:
        """Answers the sender of a mail, under the same subject with Re: before it.

        Args:
            mail_id: Id of the mail that is answered.
            body: Text.

        Returns:
            mail_id
        """
        found = self._get("mails", mail_id, "mail")
        subject = f"Re: {found['subject'].removeprefix('Re: ')}"
        key = self._write("sent", [found["sender"]], subject, body)
        self.desk.update("mails", key, reply_to=mail_id)
        return {"mail_id": key}

    @writes
    def forward_mail(self, mail_id: int, recipients: list[str], comment: str = "") -> Row:
        """Sends a mail on, under the same subject with Fwd: before it.

        Args:
            mail_id: Id of the mail.
            recipients: Email addresses.
            comment: Text above the mail's own.

        Returns:
            mail_id
        """
        found = self._get("mails", mail_id, "mail")
        body = f"{comment}\n\n{found['body']}" if comment else found["body"]
        return {"mail_id": self._write("sent", recipients, f"Fwd: {found['subject']}", body)}

    @writes
    def move_mail(self, mail_id: int, folder: str) -> Row:
        """Moves a mail to another folder.

        Args:
            mail_id: Id of the mail.
            folder: inbox, archive or trash.

        Returns:
            message
        """
        one_of("folder", folder, ("inbox", "archive", "trash"))
        self._get("mails", mail_id, "mail")
        self.desk.update("mails", mail_id, folder=folder)
        return {"message": f"The mail is in {folder}."}

    @writes
    def mark_mail(self, mail_id: int, read: bool) -> Row:
        """Marks a mail as read or unread.

        Args:
            mail_id: Id of the mail.
            read: Whether it counts as read.

        Returns:
            message
        """
        self._get("mails", mail_id, "mail")
        self.desk.update("mails", mail_id, read=int(read))
        return {"message": "The mail is marked."}

    @writes
    def star_mail(self, mail_id: int, starred: bool = True) -> Row:
        """Gives a mail a star, or takes it away.

        Args:
            mail_id: Id of the mail.
            starred: Whether it has a star.

        Returns:
            message
        """
        self._get("mails", mail_id, "mail")
        self.desk.update("mails", mail_id, starred=int(starred))
        return {"message": "The mail is marked."}

    @writes
    def label_mail(self, mail_id: int, label: str) -> Row:
        """Puts a label on a mail, beside those it has.

        Args:
            mail_id: Id of the mail.
            label: The label; no comma.

        Returns:
            message
        """
        found = self._get("mails", mail_id, "mail")
        if "," in label or not label.strip():
            raise ApiRefused(422, "a label is a text without a comma")
        self.desk.update("mails", mail_id, labels=joined([*words(found["labels"]), label]))
        return {"message": "The mail is labelled."}

    @writes
    def delete_mail(self, mail_id: int) -> Row:
        """Deletes a mail for good.

        Args:
            mail_id: Id of the mail.

        Returns:
            message
        """
        self._get("mails", mail_id, "mail")
        self.desk.write("DELETE FROM mails WHERE id = ?", mail_id)
        return {"message": "The mail is deleted."}

    def _write(self, folder: str, recipients: list[str], subject: str, body: str) -> int:
        if not recipients or any("@" not in one for one in recipients):
            raise ApiRefused(422, "recipients must be email addresses")
        return self.desk.insert(
            "mails",
            folder=folder,
            sender=self.desk.profile["email"],
            recipients=joined(sorted(recipients)),
            subject=subject,
            body=body,
            sent_at=self.desk.now,
            read=1,
        )


def _shown(mail: Row) -> Row:
    return {
        **mail,
        "recipients": words(mail["recipients"]),
        "labels": words(mail["labels"]),
        "read": bool(mail["read"]),
        "starred": bool(mail["starred"]),
    }
