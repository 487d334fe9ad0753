"""WHIP and WHEP over HTTP, with the real parser, policy and media engine behind them."""

from __future__ import annotations

from typing import Any

import pytest

from lac_media import load
from lac_web.security import SDP_BODY_MAX
from tests.web.conftest import Api, problem_of

SDP = "application/sdp"
TRICKLE = "application/trickle-ice-sdpfrag"
FINGERPRINT = ":".join(["40"] * 32)


def offer(direction: str, *, codec: str = "opus/48000/2", drop: str | None = None) -> str:
    """As a browser would write it for `direction`, without the lines that begin with `drop`."""
    lines = [
        "v=0",
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        f"a={direction}",
        "a=rtcp-mux",
        "a=ice-ufrag:EsAw",
        "a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:actpass",
        f"a=rtpmap:111 {codec}",
        "a=rtcp-fb:111 nack",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ]
    return "".join(f"{line}\r\n" for line in lines if drop is None or not line.startswith(drop))


CANDIDATE = "a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
CANDIDATE += "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host\r\na=end-of-candidates\r\n"
RESTART = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"

DIRECTIONS = {"whip": "sendonly", "whep": "recvonly"}
BOTH = pytest.mark.parametrize("way", ["whip", "whep"])


@pytest.fixture
async def host(api: Api) -> str:
    return await api.token("host")


@pytest.fixture
async def show(api: Api, host: str) -> dict[str, Any]:
    return await api.broadcast(host, live=True)


async def post(
    api: Api, path: str, token: str | None, body: str | bytes, content_type: str = SDP, **headers: str
) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call("POST", path, token, data=body, headers={"Content-Type": content_type, **named})


async def patch(api: Api, path: str, token: str | None, body: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call("PATCH", path, token, data=body, headers={"Content-Type": TRICKLE, **named})


async def open_session(api: Api, way: str, show: dict[str, Any], token: str | None) -> Any:
    response = await post(api, f"/{way}/{show['id']}", token, offer(DIRECTIONS[way]))
    assert response.status_code == 201, await response.get_data(as_text=True)
    return response


@pytest.mark.parametrize("credential", ["access token", "stream key"])
async def test_publishing(api: Api, host: str, show: dict[str, Any], credential: str) -> None:
    token = host if credential == "access token" else show["streamKey"]
    response = await open_session(api, "whip", show, token)
    assert response.headers["Content-Type"].startswith(SDP)
    answer = await response.get_data(as_text=True)
    assert "a=recvonly\r\n" in answer
    assert "a=ice-lite\r\n" in answer
    assert "a=setup:passive\r\n" in answer
    assert "opus/48000/2" in answer
    assert response.headers["Location"].startswith(f"/whip/{show['id']}/")
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Accept-Patch"] == TRICKLE
    assert "Link" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert (await api.call("DELETE", response.headers["Location"], token)).status_code == 200


async def test_listening_needs_no_token_where_the_show_is_public(api: Api, show: dict[str, Any]) -> None:
    response = await open_session(api, "whep", show, None)
    answer = await response.get_data(as_text=True)
    assert "a=sendonly\r\n" in answer
    assert "a=msid:" in answer
    assert "a=ssrc:" in answer
    location = response.headers["Location"]
    assert location.startswith(f"/whep/{show['id']}/")
    assert (await api.call("DELETE", location)).status_code == 200
    await problem_of(await api.call("DELETE", location), 404, "session_not_found")


async def test_guests_and_accounts_listen_too(api: Api, host: str, show: dict[str, Any]) -> None:
    guest = api.services.auth.issue_guest(show["id"], "guest1", "Guest")
    for token in (guest, host):
        await open_session(api, "whep", show, token)


async def test_an_encoder_that_is_the_dtls_server_is_met_as_client(api: Api, host: str, show: dict[str, Any]) -> None:
    body = offer("sendonly").replace("a=setup:actpass", "a=setup:passive")
    response = await post(api, f"/whip/{show['id']}", host, body)
    assert "a=setup:active\r\n" in await response.get_data(as_text=True)


# --- refusals ---------------------------------------------------------------------------------------------------------


NEEDED = {
    "v=": "v=0",
    "m=": "audio",
    "a=ice-": "ice-ufrag",
    "a=fingerprint": "fingerprint",
    "a=rtcp-mux": "rtcp-mux",
    "a=setup": "setup",
    "a=rtpmap": "Opus",
}


@BOTH
async def test_an_offer_without_what_is_needed_is_refused_with_the_reason(
    api: Api, host: str, show: dict[str, Any], way: str
) -> None:
    for drop, reason in NEEDED.items():
        response = await post(api, f"/{way}/{show['id']}", host, offer(DIRECTIONS[way], drop=drop))
        problem = await problem_of(response, 400, "malformed")
        assert reason in problem["detail"]


@BOTH
async def test_what_is_no_sdp_at_all(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    for body in (b"", b"\xff\xfe", b"hello", b"v=0\r\n" + b"m=audio\r\n" * 100):
        await problem_of(await post(api, f"/{way}/{show['id']}", host, body), 400, "malformed")


@BOTH
async def test_an_offer_in_the_wrong_direction(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    wrong = {"whip": "recvonly", "whep": "sendonly"}[way]
    await problem_of(await post(api, f"/{way}/{show['id']}", host, offer(wrong)), 400, "malformed")


@BOTH
async def test_a_wrong_content_type(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    for content_type in ("application/json", "text/plain", ""):
        response = await post(api, f"/{way}/{show['id']}", host, offer(DIRECTIONS[way]), content_type)
        await problem_of(response, 415, "unsupported_media_type")


@BOTH
async def test_an_offer_that_is_too_large(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    path = f"/{way}/{show['id']}"
    await problem_of(await post(api, path, host, b"v=0\r\n" + b" " * SDP_BODY_MAX), 413, "too_large")
    headers = {"Content-Type": SDP, "Authorization": f"Bearer {host}"}
    async with api.app.test_client().request(path, method="POST", headers=headers) as connection:
        for _ in range(3):
            await connection.send(b" " * 32768)
        await connection.send_complete()
    await problem_of(await connection.as_response(), 413, "too_large")


async def test_publishing_without_a_bearer(api: Api, show: dict[str, Any]) -> None:
    response = await post(api, f"/whip/{show['id']}", None, offer("sendonly"))
    await problem_of(response, 401, "not_signed_in")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["wrong-key", "a.b.c", "ключ"])
async def test_publishing_with_a_wrong_bearer(api: Api, show: dict[str, Any], token: str) -> None:
    response = await post(api, f"/whip/{show['id']}", token, offer("sendonly"))
    await problem_of(response, 401, "token_invalid")


async def test_a_stream_key_is_for_its_own_broadcast(api: Api, host: str, show: dict[str, Any]) -> None:
    other = await api.broadcast(host, live=True)
    response = await post(api, f"/whip/{other['id']}", show["streamKey"], offer("sendonly"))
    await problem_of(response, 401, "token_invalid")


async def test_publishing_with_a_role_that_may_not(api: Api, show: dict[str, Any]) -> None:
    guest = api.services.auth.issue_guest(show["id"], "guest1", "Guest")
    for token in (await api.token("bob"), guest):
        await problem_of(await post(api, f"/whip/{show['id']}", token, offer("sendonly")), 403)


async def test_an_expired_token(api: Api, show: dict[str, Any]) -> None:
    account = await api.account()
    api.clock.advance(account["expiresIn"] + 120)
    for way, direction in DIRECTIONS.items():
        response = await post(api, f"/{way}/{show['id']}", account["accessToken"], offer(direction))
        await problem_of(response, 401, "token_expired")


@BOTH
async def test_an_unknown_broadcast(api: Api, host: str, way: str) -> None:
    await problem_of(await post(api, f"/{way}/nope", host, offer(DIRECTIONS[way])), 404)


async def test_a_show_that_has_ended(api: Api, host: str, show: dict[str, Any]) -> None:
    await api.call("POST", f"/api/broadcasts/{show['id']}/end", host)
    for way, direction in DIRECTIONS.items():
        await problem_of(await post(api, f"/{way}/{show['id']}", host, offer(direction)), 409)


async def test_listening_to_a_show_that_has_not_begun(api: Api, host: str) -> None:
    broadcast = await api.broadcast(host)
    await problem_of(await post(api, f"/whep/{broadcast['id']}", None, offer("recvonly")), 409, "not_live")


async def test_a_refused_offer_leaves_no_session_behind(api: Api, host: str, show: dict[str, Any]) -> None:
    room = None
    for body in (offer("sendonly"), offer("recvonly"), "nonsense"):
        response = await post(api, f"/whip/{show['id']}", host, body)
        if response.status_code == 201:
            session = api.services.engine.session(response.headers["Location"].rpartition("/")[2])
            assert session is not None
            room = session.room
    assert room is not None
    assert len(room.sessions) == 1


# --- the session ------------------------------------------------------------------------------------------------------


@BOTH
async def test_trickling_wants_the_present_entity_tag(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    created = await open_session(api, way, show, host)
    location, tag = created.headers["Location"], created.headers["ETag"]
    response = await patch(api, location, host, CANDIDATE, If_Match=tag)
    assert response.status_code == 204
    assert await response.get_data() == b""
    assert (await patch(api, location, host, CANDIDATE, If_Match=f'"other", {tag}')).status_code == 204
    await problem_of(await patch(api, location, host, CANDIDATE), 428, "precondition_required")
    await problem_of(await patch(api, location, host, CANDIDATE, If_Match='"other"'), 412, "precondition_failed")
    await problem_of(await patch(api, location, host, CANDIDATE, If_Match=f"W/{tag}"), 412, "precondition_failed")


@BOTH
async def test_an_ice_restart_gives_new_credentials_and_a_new_tag(
    api: Api, host: str, show: dict[str, Any], way: str
) -> None:
    created = await open_session(api, way, show, host)
    location, tag = created.headers["Location"], created.headers["ETag"]
    response = await patch(api, location, host, RESTART, If_Match="*")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(TRICKLE)
    fragment = await response.get_data(as_text=True)
    assert "a=ice-pwd:" in fragment
    assert "a=candidate:" in fragment
    fresh = response.headers["ETag"]
    assert fresh != tag
    await problem_of(await patch(api, location, host, CANDIDATE, If_Match=tag), 412)
    assert (await patch(api, location, host, RESTART, If_Match=fresh)).status_code == 204


@BOTH
async def test_patches_that_cannot_be_taken(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    location = (await open_session(api, way, show, host)).headers["Location"]
    headers = {"Content-Type": "application/sdp", "If-Match": "*"}
    await problem_of(await api.call("PATCH", location, host, data=RESTART, headers=headers), 415)
    await problem_of(await patch(api, location, host, "nonsense", If_Match="*"), 400)
    no_credentials = CANDIDATE.partition("a=ice-pwd")[2].partition("\r\n")[2]
    await problem_of(await patch(api, location, host, no_credentials, If_Match="*"), 400, "bad_request")
    await problem_of(await patch(api, location, host, " " * (SDP_BODY_MAX + 1), If_Match="*"), 413)


@BOTH
async def test_a_session_answers_to_its_owner_alone(api: Api, host: str, show: dict[str, Any], way: str) -> None:
    location = (await open_session(api, way, show, host)).headers["Location"]
    other_way = location.replace(f"/{way}/", "/whep/" if way == "whip" else "/whip/")
    guest = api.services.auth.issue_guest(show["id"], "guest1", "Guest")
    strangers = [(location, await api.token("bob")), (location, guest), (other_way, host)]
    other_show = await api.broadcast(host, live=True)
    strangers.append((location.replace(show["id"], other_show["id"]), host))
    for path, token in strangers:
        await problem_of(await api.call("DELETE", path, token), 404, "session_not_found")
        await problem_of(await patch(api, path, token, RESTART, If_Match="*"), 404, "session_not_found")
    await problem_of(await api.call("DELETE", location), 401 if way == "whip" else 404)
    assert (await api.call("DELETE", location, host)).status_code == 200


async def test_the_stream_key_and_the_host_share_the_hosts_session(api: Api, host: str, show: dict[str, Any]) -> None:
    location = (await open_session(api, "whip", show, show["streamKey"])).headers["Location"]
    assert (await api.call("DELETE", location, host)).status_code == 200


# --- other methods, other origins -------------------------------------------------------------------------------------


@BOTH
async def test_the_endpoint_takes_post_only(api: Api, way: str) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        response = await api.call(method, f"/{way}/x")
        assert response.status_code == 405, method
        assert "POST" in response.headers["Allow"]


@BOTH
async def test_the_session_takes_patch_and_delete_only(api: Api, way: str) -> None:
    for method in ("GET", "HEAD", "PUT", "POST"):
        response = await api.call(method, f"/{way}/x/y")
        assert response.status_code == 405, method
        assert {"PATCH", "DELETE"} <= {word.strip() for word in response.headers["Allow"].split(",")}


@BOTH
async def test_options_says_what_is_taken_and_any_origin_may_ask(api: Api, way: str) -> None:
    headers = {"Origin": "https://player.example", "Access-Control-Request-Method": "POST"}
    response = await api.call("OPTIONS", f"/{way}/x", headers=headers)
    assert response.status_code == 204
    assert response.headers["Accept-Post"] == SDP
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    allowed = response.headers["Access-Control-Allow-Headers"]
    assert all(name in allowed for name in ("Authorization", "Content-Type", "If-Match"))
    response = await api.call("OPTIONS", f"/{way}/x/y", headers=headers)
    assert response.headers["Accept-Patch"] == TRICKLE
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_pages_of_other_origins_see_the_headers_they_need(api: Api, show: dict[str, Any]) -> None:
    response = await post(api, f"/whep/{show['id']}", None, offer("recvonly"), Origin="https://player.example")
    assert response.status_code == 201
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert all(name in exposed for name in ("Location", "ETag", "Link", "WWW-Authenticate"))
    refused = await post(api, "/whep/nope", None, "x", Origin="https://player.example")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_busy_server_refuses_who_would_listen_and_nobody_else(
    api: Api, host: str, show: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "FEW_SESSIONS", 0)
    api.services.engine.load.overloaded = True
    refused = await post(api, f"/whep/{show['id']}", None, offer("recvonly"))
    assert (await problem_of(refused, 503))["code"] == "overloaded"
    assert int(refused.headers["Retry-After"]) >= 1
    transports = f"/api/mediasoup/{show['id']}/transports"
    response = await api.call("POST", transports, await api.token("ann"), json={"direction": "recv"})
    assert (await problem_of(response, 503))["code"] == "overloaded"

    assert (await post(api, f"/whip/{show['id']}", host, offer("sendonly"))).status_code == 201
    assert (await api.call("POST", transports, host, json={"direction": "recv"})).status_code == 201
    api.services.engine.load.overloaded = False
    assert (await post(api, f"/whep/{show['id']}", None, offer("recvonly"))).status_code == 201


async def test_a_player_asks_for_the_economy_variant_in_its_query(api: Api, show: dict[str, Any]) -> None:
    red = "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
    body = offer("recvonly").replace("SAVPF 111", "SAVPF 111 63") + red
    plain = await (await post(api, f"/whep/{show['id']}?variant=opus&t=5", None, body)).get_data(as_text=True)
    saving = await (await post(api, f"/whep/{show['id']}?variant=opus3", None, body)).get_data(as_text=True)
    assert "SAVPF 111 63\r\n" in plain
    assert "ptime" not in plain.replace("minptime", "")
    assert "SAVPF 111\r\n" in saving
    assert "a=ptime:60\r\na=maxptime:120\r\n" in saving
    assert "red" not in saving


@pytest.mark.parametrize("query", ["variant=opus%2Bred", "variant=", "variant=Opus3", "variant=opus&variant=opus3"])
async def test_another_variant_is_refused_by_name(api: Api, show: dict[str, Any], query: str) -> None:
    problem = await problem_of(await post(api, f"/whep/{show['id']}?{query}", None, offer("recvonly")), 422)
    assert [error["field"] for error in problem["errors"]] == ["variant"]


async def test_who_takes_no_long_packets_cannot_have_the_economy_variant(api: Api, show: dict[str, Any]) -> None:
    way = f"/whep/{show['id']}?variant=opus3"
    problem = await problem_of(await post(api, way, None, offer("recvonly") + "a=maxptime:40\r\n"), 400)
    assert "a=maxptime:40" in problem["detail"]
    assert (await post(api, way, None, offer("recvonly") + "a=maxptime:60\r\n")).status_code == 201
