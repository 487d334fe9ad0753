"""The HTTP side of a load test: signing in, the show, and one request for each listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import trio

from lac.errors import ConfigError, UnavailableError
from lac.loadtest.plan import Plan, Repair
from lac_media.net.peer_task import ClientPeer
from lac_media.parameters import Direction, DtlsParameters, IceCandidate, IceParameters, ProducerParameters
from lac_media.proto.sdp import OfferParameters, build_offer, parse_answer_untrusted

SDP = {"Content-Type": "application/sdp"}
TIMEOUT_S = 30.0
#: What a server that says "too many" or "not now" may make us wait.
MAX_WAIT_S = 5.0
RED_PAYLOAD_TYPE = 63


class RefusedError(Exception):
    """The server does not want this: its status and the code of its problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server said to an offer."""

    ice: IceParameters
    candidate: IceCandidate
    dtls: DtlsParameters
    stream: ProducerParameters


class Signalling:
    """One server's API. `retried` counts the answers 429 and 503 that we waited for."""

    def __init__(self, plan: Plan, http: httpx.AsyncClient) -> None:
        self._http = http
        self._plan = plan
        self._token = plan.token
        self.retried = 0

    async def sign_in(self) -> None:
        """As the plan's account, if it names one."""
        if self._plan.email is not None:
            signed_in = await self.call(
                "POST", "/api/auth/login", json={"email": self._plan.email, "password": self._plan.password or ""}
            )
            self._token = signed_in["accessToken"]

    async def show(self, number: int) -> str:
        """The id of a show to listen to; live when this returns."""
        if self._plan.broadcast_id is not None:
            show_id = self._plan.broadcast_id
            if self._token is not None:
                await self.call("POST", f"/api/broadcasts/{show_id}/start")
            return show_id
        if self._token is not None:
            body = {"title": f"Load test {number}", "visibility": "unlisted"}
            show = await self.call("POST", "/api/broadcasts", json=body)
            await self.call("POST", f"/api/broadcasts/{show['id']}/start")
            return str(show["id"])
        found = await self.call("GET", "/api/broadcasts?status=live&limit=1")
        if not found["items"]:
            raise ConfigError(
                "No public show is live there. Name one with --broadcast, or give --email and a password to start one."
            )
        return str(found["items"][0]["id"])

    async def end(self, show_id: str) -> None:
        """End a show that `show` started. One that was named is left as it is."""
        if self._plan.broadcast_id is None and self._token is not None:
            await self.call("POST", f"/api/broadcasts/{show_id}/end")

    async def connect(
        self, show_id: str, peer: ClientPeer, direction: Direction, *, cname: str, token: str | None = None
    ) -> Answered:
        """Offer by WHEP, or, to publish, by WHIP; as whoever we have signed in as, or with a `token` of another."""
        publishes = direction is Direction.SEND
        repair = None if publishes else self._plan.repair  # a publisher of ours would not answer
        offer = build_offer(
            OfferParameters(
                ice=peer.ice_parameters,
                candidates=(),
                fingerprints=(peer.fingerprint,),
                direction=direction,
                ssrc=peer.ssrc if publishes else None,
                cname=cname if publishes else None,
                nack=repair is not None,
                red_payload_type=RED_PAYLOAD_TYPE if repair is Repair.RED else None,
            )
        )
        path = f"/whip/{show_id}" if publishes else f"/whep/{show_id}"
        if not publishes and self._plan.variant != "opus":
            path += f"?variant={self._plan.variant}"
        token = (token or self._token) if publishes else None
        response = await self._send("POST", path, content=offer, headers=SDP, token=token)
        answer = parse_answer_untrusted(response.text)
        candidate = next((found for found in answer.candidates if found.protocol == "udp"), None)
        if candidate is None or answer.ice is None:
            raise RefusedError(response.status_code, "no_candidate", "the answer has no UDP candidate")
        stream = ProducerParameters(
            answer.payload_type,
            audio_level_extension_id=answer.audio_level_extension_id,
            nack=answer.nack,
            red_payload_type=answer.red_payload_type,
        )
        return Answered(answer.ice, candidate, answer.dtls_parameters(), stream)

    async def call(self, method: str, path: str, *, json: Any = None) -> Any:
        """One request as whoever we have signed in as."""
        response = await self._send(method, path, json=json, token=self._token)
        return response.json() if response.content else None

    async def _send(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        json: Any = None,
        content: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Asks again, as told, when it is too much for the server. Raises `RefusedError`, `UnavailableError`."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        for attempt in range(self._plan.retries + 1):
            try:
                response = await self._http.request(method, path, json=json, content=content, headers=headers)
            except httpx.HTTPError as error:
                raise UnavailableError(
                    f"{self._plan.url} does not answer: {str(error) or type(error).__name__}."
                ) from error
            if response.is_success:
                return response
            refused = _refused(response)
            if response.status_code not in (429, 503) or refused.code == "use_hls" or attempt == self._plan.retries:
                raise refused
            self.retried += 1
            await trio.sleep(min(MAX_WAIT_S, _retry_after_s(response)))
        raise AssertionError("unreachable")


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return max(0.1, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _refused(response: httpx.Response) -> RefusedError:
    try:
        problem = response.json()
        return RefusedError(response.status_code, str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return RefusedError(response.status_code, "no_problem_document", response.text[:200])
