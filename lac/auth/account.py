"""What people do with their own account: prove the address, change or recover the password, take their data, leave."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import trio
from sqlalchemy import orm

from lac.audit import AccountAct, add_audit
from lac.auth import account_store, store
from lac.auth.credentials import PASSWORD_MAX, check_password, normalise_email
from lac.auth.export import AccountExport, export_account
from lac.auth.model import User
from lac.auth.passwords import PasswordHasher
from lac.auth.sign_ins import SignInEnder, SignInsEnded
from lac.auth.tokens import RESET_LIFETIME, VERIFY_LIFETIME, hash_opaque_token, new_opaque_token
from lac.clock import Clock, utc_now
from lac.config import Settings
from lac.db.engine import Database
from lac.db.models import TokenPurpose
from lac.errors import ForbiddenError, InvalidInputError, NotFoundError, TooManyRequestsError, UnavailableError
from lac.identity import Identity, IdentityKind
from lac.mail import Mail, Mailer
from lac.mail_smtp import mailer_for
from lac.outbox import AtOnce, Outbox
from lac.urls import base_url_of

#: A request for a new password takes so long at least, whether or not there is such an account.
RESET_ANSWER_S = 0.5

_LIFETIMES = {TokenPurpose.VERIFY_EMAIL: VERIFY_LIFETIME, TokenPurpose.RESET_PASSWORD: RESET_LIFETIME}


class AccountService:
    def __init__(
        self,
        db: Database,
        settings: Settings,
        hasher: PasswordHasher,
        sign_ins: SignInEnder,
        *,
        mailer: Mailer | None = None,
        outbox: Outbox | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._db = db
        self._settings = settings
        self._hasher = hasher
        self._sign_ins = sign_ins
        self._mailer = mailer or mailer_for(settings.smtp)
        self.outbox = outbox or AtOnce()
        self._clock = clock

    async def change_password(self, identity: Identity, current: str, new: str) -> None:
        """Ends every sign-in but this one. Raises `ForbiddenError` (wrong_password), `InvalidInputError`."""
        password = check_password(new, field="newPassword")
        old_hash = await self._confirm(identity, current)
        new_hash = await self._hasher.hash(password)

        def change(session: orm.Session) -> None:
            now = self._clock()
            # Also a check that it was not changed while we compared it.
            if not store.replace_password_hash(session, identity.id, old=old_hash, new=new_hash):
                raise _wrong_password()
            store.revoke_all(session, identity.id, now, but=identity.sign_in_id)
            account_store.void_account_tokens(session, identity.id, TokenPurpose.RESET_PASSWORD, now)
            add_audit(session, AccountAct.PASSWORD_CHANGED, at=now, actor_id=identity.id, target_id=identity.id)

        await self._sign_ins.end(SignInsEnded(identity.id, but=identity.sign_in_id), change)

    async def delete(self, identity: Identity, password: str) -> None:
        """Delete the account and the shows that it hosts. Chat in other people's shows stays, without the name.

        Raises `ForbiddenError` (wrong_password), `ConflictError` (show_is_live, last_admin).
        """
        password_hash = await self._confirm(identity, password)

        def remove(session: orm.Session) -> None:
            if not account_store.delete_account(session, identity.id, password_hash=password_hash, at=self._clock()):
                raise _wrong_password()

        await self._sign_ins.end(SignInsEnded(identity.id), remove)

    async def export(self, identity: Identity) -> AccountExport:
        """Everything that is kept about this person."""
        _require_account(identity)
        export = await self._db.read(lambda session: export_account(session, identity.id, at=self._clock()))
        if export is None:
            raise NotFoundError("There is no such user.")
        return export

    async def welcome(self, user: User) -> None:
        """The link of a new account. That it does not get through is no reason not to register."""
        send = partial(self._send_link, user, TokenPurpose.VERIFY_EMAIL)
        await self.outbox.post("welcome mail", send, user_id=user.id)

    async def request_verification(self, identity: Identity) -> None:
        """Have another link sent, unless the address is confirmed already. Raises `TooManyRequestsError` (mail_limit),
        `UnavailableError` (mail_busy)."""
        _require_account(identity)
        user = await self._db.read(lambda session: store.find_user(session, identity.id))
        if user is None:
            raise NotFoundError("There is no such user.")
        if user.email_verified:
            return
        mail, again_at = await self._new_link(user, TokenPurpose.VERIFY_EMAIL)
        if mail is not None and not await self.outbox.post(
            "verification mail", partial(self._mailer.send, mail), user_id=user.id
        ):
            raise UnavailableError("Too many mails wait to be sent. Try again in a moment.", code="mail_busy")
        if again_at is not None:
            wait = (again_at - self._clock()) / timedelta(seconds=1)
            raise TooManyRequestsError(
                "You have been sent several links. Look into the spam folder too, or try later.",
                retry_after_s=max(1.0, wait),
                code="mail_limit",
            )

    async def verify_email(self, token: str) -> None:
        """Take the link of a mail as proof of the address. Raises `ForbiddenError` (verify_token_invalid)."""
        token_hash = self._hash(token)

        def verify(session: orm.Session) -> bool:
            now = self._clock()
            user_id = account_store.use_account_token(session, token_hash, TokenPurpose.VERIFY_EMAIL, now)
            if user_id is None:
                return account_store.was_verified_with(session, token_hash)
            account_store.set_email_verified(session, user_id, now)
            add_audit(session, AccountAct.EMAIL_VERIFIED, at=now, actor_id=user_id, target_id=user_id)
            return True

        if not await self._db.run(verify):
            raise ForbiddenError(
                "This link has expired, or it is not complete. Ask for a new one.", code="verify_token_invalid"
            )

    async def request_password_reset(self, email: str) -> None:
        """Have a link sent to the account of that address, if there is one. The caller never learns whether: before the
        answer nothing is done for one who has an account that is not done for one who has none."""
        answer_at = trio.current_time() + RESET_ANSWER_S
        try:
            address = normalise_email(email)
        except InvalidInputError:
            address = None
        if address is not None:
            found = await self._db.read(lambda session: store.find_credentials(session, address))
            if found is not None:
                send = partial(self._send_link, found.user, TokenPurpose.RESET_PASSWORD)
                await self.outbox.post("password reset mail", send, user_id=found.user.id)
        await trio.sleep_until(answer_at)

    async def reset_password(self, token: str, password: str) -> None:
        """Set a new password with the link of a mail, which also proves the address. Ends every sign-in.

        Raises `ForbiddenError` (reset_token_invalid), `InvalidInputError`; only success uses the link up.
        """
        password = check_password(password)
        token_hash, purpose = self._hash(token), TokenPurpose.RESET_PASSWORD
        user_id = await self._db.read(
            lambda session: account_store.owner_of_account_token(session, token_hash, purpose, self._clock())
        )
        if user_id is None:
            raise _invalid_reset_token()
        password_hash = await self._hasher.hash(password)

        def reset(session: orm.Session) -> None:
            now = self._clock()
            if account_store.use_account_token(session, token_hash, purpose, now) is None:
                raise _invalid_reset_token()
            store.replace_password_hash(session, user_id, old=None, new=password_hash)
            store.revoke_all(session, user_id, now)
            account_store.set_email_verified(session, user_id, now)
            add_audit(session, AccountAct.PASSWORD_RESET, at=now, actor_id=user_id, target_id=user_id)

        await self._sign_ins.end(SignInsEnded(user_id), reset)

    async def _confirm(self, identity: Identity, password: str) -> str:
        """The hash of the account's password, if `password` is right: an access token alone may be a stolen one."""
        _require_account(identity)
        found = await self._db.read(lambda session: store.find_credentials_of(session, identity.id))
        try:
            password = check_password(password[: PASSWORD_MAX + 1])
        except InvalidInputError:
            raise _wrong_password() from None
        if found is None or not await self._hasher.verify(password, found.password_hash):
            raise _wrong_password()
        return found.password_hash

    async def _send_link(self, user: User, purpose: TokenPurpose) -> None:
        """Mail a new link, unless there were too many."""
        mail, _ = await self._new_link(user, purpose)
        if mail is not None:
            await self._mailer.send(mail)

    async def _new_link(self, user: User, purpose: TokenPurpose) -> tuple[Mail | None, datetime | None]:
        """(the mail with a link that works from now on, when there may be the next one if that is not now)."""
        token = new_opaque_token()
        token_hash = self._hash(token)
        again_at = await self._db.run(
            lambda session: account_store.add_account_token(
                session, user.id, purpose, token_hash, lifetime=_LIFETIMES[purpose], at=self._clock()
            )
        )
        mail = _letter(user, purpose, token, base_url_of(self._settings)) if again_at is None else None
        return mail, again_at

    def _hash(self, token: str) -> str:
        return hash_opaque_token(token, key=self._settings.jwt_refresh_secret)


def _letter(user: User, purpose: TokenPurpose, token: str, base_url: str) -> Mail:
    # Behind the #, so that the token is in no log of a server or proxy. And no word that a stranger could choose: one
    # can register with somebody else's address.
    if purpose is TokenPurpose.VERIFY_EMAIL:
        return Mail(
            user.email,
            "Confirm your e-mail address",
            f"Hello,\n\nthis link confirms your e-mail address. It works for three days:\n\n"
            f"{base_url}/verify-email#token={token}\n\nIf you have no account at {base_url}, ignore this mail.\n",
        )
    return Mail(
        user.email,
        "A new password",
        f"Hello,\n\nthis link lets you choose a new password. It works for one hour:\n\n"
        f"{base_url}/reset-password#token={token}\n\n"
        "If you did not ask for it, ignore this mail: your password stays as it is.\n",
    )


def _require_account(identity: Identity) -> None:
    if identity.kind is not IdentityKind.USER:
        raise ForbiddenError("Sign in with an account to do this.", code="account_needed")


def _wrong_password() -> ForbiddenError:
    return ForbiddenError("The password is wrong.", code="wrong_password")


def _invalid_reset_token() -> ForbiddenError:
    return ForbiddenError("This link has been used or has expired. Ask for a new one.", code="reset_token_invalid")
