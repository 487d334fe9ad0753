"""Sign-ins and who is asking: what the API and the command line call. What people do with the account that they have
is `AuthService.account`, see `lac.auth.account`.
"""

from __future__ import annotations

import trio
from sqlalchemy import orm

from lac.audit import AccountAct, add_audit
from lac.auth import store
from lac.auth.account import AccountService
from lac.auth.credentials import PASSWORD_MAX, check_display_name, check_password, normalise_email
from lac.auth.model import SignedIn, User
from lac.auth.passwords import PasswordHasher
from lac.auth.sign_ins import SignInEnder, SignInsEnded
from lac.auth.tokens import (
    ACCESS_LIFETIME,
    SETUP_LIFETIME,
    AccessClaims,
    GuestClaims,
    ListenClaims,
    decode_listen_untrusted,
    decode_token_untrusted,
    encode_access,
    encode_guest,
    encode_listen,
    hash_opaque_token,
    new_opaque_token,
    successor_of,
)
from lac.clock import Clock, utc_now
from lac.config import Settings
from lac.db.engine import Database
from lac.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError, NotSignedInError
from lac.identity import Identity, IdentityKind
from lac.mail import Mailer
from lac.outbox import Outbox
from lac.urls import base_url_of

__all__ = ["AuthService", "SignedIn", "User"]


class AuthService:
    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        hasher: PasswordHasher | None = None,
        mailer: Mailer | None = None,
        outbox: Outbox | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Without a `mailer` mails go where the settings say; without an `outbox` the caller waits for them."""
        self._db = db
        self._settings = settings
        self._hasher = hasher or PasswordHasher()
        self._clock = clock
        self.sign_ins = SignInEnder(db)
        self.account = AccountService(
            db, settings, self._hasher, self.sign_ins, mailer=mailer, outbox=outbox, clock=clock
        )

    async def register(self, email: str, password: str, display_name: str) -> SignedIn:
        """A new account, signed in; a link to confirm its address is on the way. Raises `ForbiddenError`
        (registration_closed), `InvalidInputError`, `ConflictError` (email_taken).
        """
        if not self._settings.open_registration:
            raise ForbiddenError(
                "New accounts are made by the administrator of this server.", code="registration_closed"
            )
        email, password, display_name = _check_account(email, password, display_name)
        password_hash = await self._hasher.hash(password)

        def add(session: orm.Session) -> SignedIn:
            user = store.add_user(
                session,
                email=email,
                password_hash=password_hash,
                display_name=display_name,
                is_admin=False,
                at=self._clock(),
            )
            return self._sign_in(session, user)

        signed_in = await self._db.run(add)
        await self.account.welcome(signed_in.user)
        return signed_in

    async def login(self, email: str, password: str) -> SignedIn:
        """Raises `NotSignedInError` (invalid_credentials), without telling which of the two is wrong."""
        credentials = await self._find_credentials(email)
        password_hash = None if credentials is None else credentials.password_hash
        try:
            password = check_password(password[: PASSWORD_MAX + 1])
        except InvalidInputError:
            password_hash = None  # no account has such a password
            password = ""
        matches = await self._hasher.verify(password, password_hash)
        if not matches or credentials is None or password_hash is None:
            raise _invalid_credentials()
        user, old_hash = credentials.user, password_hash
        new_hash = await self._hasher.hash(password) if self._hasher.needs_rehash(old_hash) else old_hash

        def sign_in(session: orm.Session) -> SignedIn:
            # Also a check that the password was not changed while we compared it.
            if not store.replace_password_hash(session, user.id, old=old_hash, new=new_hash):
                raise _invalid_credentials()
            return self._sign_in(session, user)

        return await self._db.run(sign_in)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Swap a refresh token for new tokens, once; for ten seconds a client that did not get the answer may ask
        again. Raises `NotSignedInError` (token_invalid, token_expired, or refresh_reused: then every token since that
        sign-in is void, because two parties hold the same one).
        """
        successor = successor_of(refresh_token, key=self._settings.jwt_refresh_secret)
        old_hash, new_hash = self._hash(refresh_token), self._hash(successor)
        rotation = await self._db.run(
            lambda session: store.rotate_refresh_token(session, old_hash, new_hash, at=self._clock())
        )
        if rotation.outcome is store.RefreshOutcome.REUSED:
            if rotation.user is not None:
                self.sign_ins.tell(SignInsEnded(rotation.user.id, only=rotation.sign_in_id))
            raise NotSignedInError("This refresh token was used before. Sign in again.", code="refresh_reused")
        if rotation.outcome is store.RefreshOutcome.EXPIRED:
            raise NotSignedInError("Your sign-in has expired. Sign in again.", code="token_expired")
        if rotation.user is None or rotation.sign_in_id is None:
            raise NotSignedInError("This refresh token is not valid. Sign in again.", code="token_invalid")
        return self._signed_in(rotation.user, rotation.sign_in_id, successor)

    async def logout(self, refresh_token: str) -> None:
        """End the sign-in that this token belongs to. An unknown token is no error: there is nothing to end."""
        token_hash = self._hash(refresh_token)

        found = await self._db.read(lambda session: store.find_sign_in(session, token_hash))
        if found is not None:
            user_id, sign_in_id = found
            await self.sign_ins.end(
                SignInsEnded(user_id, only=sign_in_id),
                lambda session: store.revoke_sign_in(session, sign_in_id, self._clock()),
            )

    async def logout_everywhere(self, identity: Identity) -> None:
        """End every sign-in of the account, this one included. Access tokens end with them."""
        if identity.kind is not IdentityKind.USER:
            raise ForbiddenError("Only an account can sign out. Sign in first.", code="account_needed")

        def revoke(session: orm.Session) -> None:
            now = self._clock()
            store.revoke_all(session, identity.id, now)
            add_audit(session, AccountAct.SIGNED_OUT_EVERYWHERE, at=now, actor_id=identity.id, target_id=identity.id)

        await self.sign_ins.end(SignInsEnded(identity.id), revoke)

    async def identify(self, bearer: str) -> Identity:
        """Who presents this access or guest token. Raises `NotSignedInError` (token_expired, or token_invalid: also
        when the account is gone or this sign-in has ended)."""
        claims = decode_token_untrusted(bearer, key=self._settings.jwt_secret, now=self._clock())
        if isinstance(claims, GuestClaims):
            return _guest(claims)
        return await self.identify_sign_in(claims.user_id, claims.sign_in_id)

    async def identify_listener(self, token: str, broadcast_id: str) -> Identity:
        """Who presents this token in a player's address: a guest, or an account with `issue_listen`'s. Raises as
        `identify`; an access token is not taken there."""
        claims = decode_listen_untrusted(token, key=self._settings.jwt_secret, now=self._clock())
        if isinstance(claims, GuestClaims):
            return _guest(claims)
        if claims.broadcast_id != broadcast_id:
            raise NotSignedInError("This address is another show's.", code="token_invalid")
        return await self.identify_sign_in(claims.user_id, claims.sign_in_id)

    def issue_listen(self, identity: Identity, broadcast_id: str) -> str:
        """A token for a player's address: good for listening to this broadcast, for a week at most, and as long as the
        sign-in that asks for it. A guest's is as good as the guest's own."""
        if identity.is_guest:
            return self.issue_guest(
                broadcast_id, identity.id, identity.display_name, invite_version=identity.invite_version
            )
        claims = ListenClaims(identity.id, identity.sign_in_id or "", broadcast_id)
        return encode_listen(claims, key=self._settings.jwt_secret, now=self._clock())

    async def identify_sign_in(self, user_id: str, sign_in_id: str) -> Identity:
        """The account with this sign-in. Raises `NotSignedInError` (token_invalid) when either is gone."""
        user = await self._find_signed_in(user_id, sign_in_id)
        if user is None:
            raise NotSignedInError("This sign-in has ended. Sign in again.", code="token_invalid")
        return Identity(IdentityKind.USER, user.id, user.display_name, is_admin=user.is_admin, sign_in_id=sign_in_id)

    async def check_signed_in(self, identity: Identity) -> None:
        """Raise `NotSignedInError` (token_invalid) if an account's sign-in has ended since it was identified."""
        user_id, sign_in_id = identity.id, identity.sign_in_id
        if identity.kind is not IdentityKind.USER or sign_in_id is None:
            return
        if await self._find_signed_in(user_id, sign_in_id) is None:
            raise NotSignedInError("This sign-in has ended. Sign in again.", code="token_invalid")

    async def _find_signed_in(self, user_id: str, sign_in_id: str) -> User | None:
        recent = self.sign_ins.recent
        user = recent.find(user_id, sign_in_id, now=trio.current_time())
        if user is not None:
            await trio.lowlevel.checkpoint()
            return user
        version = recent.version
        user = await self._db.read(lambda session: store.find_signed_in(session, user_id, sign_in_id))
        if user is not None:
            recent.remember(user, sign_in_id, version=version, now=trio.current_time())
        return user

    async def get_user(self, user_id: str) -> User:
        user = await self._db.read(lambda session: store.find_user(session, user_id))
        if user is None:
            raise NotFoundError("There is no such user.")
        return user

    async def update_me(self, identity: Identity, *, display_name: str) -> User:
        if identity.kind is not IdentityKind.USER:
            raise ForbiddenError("Only an account can be changed. Sign in first.")
        name = check_display_name(display_name)
        try:
            user = await self._db.run(lambda session: store.set_display_name(session, identity.id, name, self._clock()))
        finally:
            self.sign_ins.recent.forget(identity.id)
        if user is None:
            raise NotFoundError("There is no such user.")
        return user

    def issue_guest(
        self, broadcast_id: str, guest_id: str, display_name: str, *, invite_version: int | None = None
    ) -> str:
        """A token for somebody without an account, good in one broadcast for 12 hours. `invite_version`: they came by
        its invite link."""
        claims = GuestClaims(guest_id, broadcast_id, display_name, invite_version)
        return encode_guest(claims, key=self._settings.jwt_secret, now=self._clock())

    async def issue_setup_link(self, base_url: str | None = None) -> str | None:
        """A single-use link that creates the first admin; earlier ones stop working. None once there is an admin.

        `base_url` is where the server turned out to listen; LAC_PUBLIC_URL goes before it.
        """
        token = new_opaque_token()
        token_hash = self._hash(token)
        now = self._clock()

        def issue(session: orm.Session) -> bool:
            if store.has_admin(session):
                return False
            store.replace_setup_token(session, token_hash, at=now, expires_at=now + SETUP_LIFETIME)
            return True

        if not await self._db.run(issue):
            return None
        return f"{base_url_of(self._settings, base_url)}/setup#token={token}"

    async def create_admin_with_setup_token(self, token: str, email: str, password: str, display_name: str) -> SignedIn:
        """The first admin, signed in. Raises `ForbiddenError` (setup_token_invalid) and what `register` raises; the
        token is used up only by success.
        """
        email, password, display_name = _check_account(email, password, display_name)
        token_hash = self._hash(token)
        if not await self._db.read(lambda session: store.setup_token_is_valid(session, token_hash, self._clock())):
            raise _invalid_setup_token()
        password_hash = await self._hasher.hash(password)

        def create(session: orm.Session) -> SignedIn:
            now = self._clock()
            if not store.use_setup_token(session, token_hash, now) or store.has_admin(session):
                raise _invalid_setup_token()
            user = store.add_user(
                session,
                email=email,
                password_hash=password_hash,
                display_name=display_name,
                is_admin=True,
                at=now,
            )
            return self._sign_in(session, user)

        return await self._db.run(create)

    async def create_user(self, email: str, password: str, display_name: str, *, is_admin: bool) -> User:
        """For the operator, at the command line: asks nobody's permission."""
        email, password, display_name = _check_account(email, password, display_name)
        password_hash = await self._hasher.hash(password)

        def create(session: orm.Session) -> User:
            if is_admin:
                store.delete_setup_tokens(session)
            return store.add_user(
                session,
                email=email,
                password_hash=password_hash,
                display_name=display_name,
                is_admin=is_admin,
                at=self._clock(),
            )

        return await self._db.run(create)

    async def reset_password(self, email: str, password: str) -> User:
        """For the operator, at the command line. Ends every sign-in of that person."""
        email, password = normalise_email(email), check_password(password)
        password_hash = await self._hasher.hash(password)

        def reset(session: orm.Session) -> User:
            credentials = store.find_credentials(session, email)
            if credentials is None:
                raise NotFoundError(f"There is no account with the address {email}.")
            store.replace_password_hash(session, credentials.user.id, old=None, new=password_hash)
            now = self._clock()
            store.revoke_all(session, credentials.user.id, now)
            add_audit(session, AccountAct.PASSWORD_RESET, at=now, actor_id=None, target_id=credentials.user.id)
            return credentials.user

        return await self._db.run(reset)

    async def _find_credentials(self, email: str) -> store.Credentials | None:
        try:
            address = normalise_email(email)
        except InvalidInputError:
            return None
        return await self._db.read(lambda session: store.find_credentials(session, address))

    def _sign_in(self, session: orm.Session, user: User) -> SignedIn:
        """Begin a family of refresh tokens."""
        refresh_token = new_opaque_token()
        token_hash = self._hash(refresh_token)
        sign_in_id = store.add_refresh_token(session, user.id, token_hash, sign_in_id=None, at=self._clock())
        return self._signed_in(user, sign_in_id, refresh_token)

    def _signed_in(self, user: User, sign_in_id: str, refresh_token: str) -> SignedIn:
        claims = AccessClaims(user.id, sign_in_id)
        access_token = encode_access(claims, key=self._settings.jwt_secret, now=self._clock())
        return SignedIn(user, access_token, refresh_token, int(ACCESS_LIFETIME.total_seconds()))

    def _hash(self, token: str) -> str:
        return hash_opaque_token(token, key=self._settings.jwt_refresh_secret)


def _check_account(email: str, password: str, display_name: str) -> tuple[str, str, str]:
    """All three checked; the error names every field that is wrong."""
    checked: list[str] = []
    errors: list[FieldError] = []
    for check, value in ((normalise_email, email), (check_password, password), (check_display_name, display_name)):
        try:
            checked.append(check(value))
        except InvalidInputError as error:
            errors.extend(error.errors)
    if errors:
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in errors) + ".", *errors)
    email, password, display_name = checked
    return email, password, display_name


def _invalid_credentials() -> NotSignedInError:
    return NotSignedInError("The e-mail address or the password is wrong.", code="invalid_credentials")


def _invalid_setup_token() -> ForbiddenError:
    return ForbiddenError(
        "This setup link has been used or has expired. Restart the server to get a new one.",
        code="setup_token_invalid",
    )


def _guest(claims: GuestClaims) -> Identity:
    return Identity(
        IdentityKind.GUEST,
        claims.guest_id,
        claims.display_name,
        broadcast_id=claims.broadcast_id,
        invite_version=claims.invite_version,
    )
