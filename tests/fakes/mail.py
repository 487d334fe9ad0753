"""A mailer that keeps what it is given."""

from __future__ import annotations

from lac.errors import UnavailableError
from lac.mail import Mail


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.away = False

    async def send(self, mail: Mail) -> None:
        if self.away:
            raise UnavailableError("The mail server cannot be reached.")
        self.mails.append(mail)

    def tokens(self, to: str, page: str) -> list[str]:
        """The tokens of the links to this page in the mails to this address, the first one first."""
        lines = [line for mail in self.mails if mail.to == to for line in mail.text.splitlines()]
        return [line.partition("#token=")[2] for line in lines if f"/{page}#token=" in line]

    def last_token(self, to: str, page: str) -> str:
        return self.tokens(to, page)[-1]
