"""Signalling with the very shapes that mediasoup-client posts and reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Api, problem_of

FINGERPRINT = {"algorithm": "sha-256", "value": ":".join(["40"] * 32)}
CONNECT = {"dtlsParameters": {"role": "client", "fingerprints": [FINGERPRINT]}}
#: As Chromium's handler posts it.
PRODUCE: dict[str, Any] = {
    "kind": "audio",
    "rtpParameters": {
        "mid": "0",
        "codecs": [
            {
                "mimeType": "audio/opus",
                "payloadType": 111,
                "clockRate": 48000,
                "channels": 2,
                "parameters": {"minptime": 10, "useinbandfec": 1},
                "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}, {"type": "nack", "parameter": ""}],
            }
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": False, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1, "encrypt": False, "parameters": {}},
        ],
        "encodings": [{"ssrc": 3222388435, "dtx": False}],
        "rtcp": {"cname": "NeeI9Wny6pCCMcbi", "reducedSize": True},
        "msid": "stream track",
    },
    "appData": {},
}
OPUS_CAPABILITY = {
    "kind": "audio",
    "mimeType": "audio/opus",
    "clockRate": 48000,
    "channels": 2,
    "preferredPayloadType": 100,
    "parameters": {},
    "rtcpFeedback": [{"type": "nack", "parameter": ""}],
}
LEVEL_CAPABILITY = {
    "kind": "audio",
    "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "preferredId": 10,
    "preferredEncrypt": False,
    "direction": "sendrecv",
}
CONSUME = {"rtpCapabilities": {"codecs": [OPUS_CAPABILITY], "headerExtensions": [LEVEL_CAPABILITY]}}


async def transport(api: Api, broadcast_id: str, direction: str, token: str | None = None) -> dict[str, Any]:
    path = f"/api/mediasoup/{broadcast_id}/transports"
    response = await api.call("POST", path, token, json={"direction": direction})
    assert response.status_code == 201, await response.get_data(as_text=True)
    return await response.get_json()


@pytest.fixture
async def host(api: Api) -> str:
    return await api.token("host")


@pytest.fixture
async def live(api: Api, host: str) -> str:
    return (await api.broadcast(host, live=True))["id"]


async def test_capabilities_are_opus_with_nack_mid_and_level(api: Api, live: str) -> None:
    response = await api.call("GET", f"/api/mediasoup/{live}/rtp-capabilities")
    assert response.status_code == 200
    assert await response.get_json() == {
        "rtpCapabilities": {
            "codecs": [
                {
                    "kind": "audio",
                    "mimeType": "audio/opus",
                    "clockRate": 48000,
                    "channels": 2,
                    "preferredPayloadType": 100,
                    "parameters": {"useinbandfec": 1, "usedtx": 0, "minptime": 10},
                    "rtcpFeedback": [{"type": "nack", "parameter": ""}],
                }
            ],
            "headerExtensions": [
                {
                    "kind": "audio",
                    "uri": uri,
                    "preferredId": preferred_id,
                    "preferredEncrypt": False,
                    "direction": "sendrecv",
                }
                for uri, preferred_id in (
                    ("urn:ietf:params:rtp-hdrext:sdes:mid", 1),
                    ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
                )
            ],
        }
    }
    await problem_of(await api.call("GET", "/api/mediasoup/nope/rtp-capabilities"), 404)


@pytest.mark.parametrize("direction", ["send", "recv"])
async def test_a_transport_is_what_the_library_takes_whole(api: Api, live: str, host: str, direction: str) -> None:
    answer = await transport(api, live, direction, host)
    assert answer.keys() == {"id", "iceParameters", "iceCandidates", "dtlsParameters"}
    assert answer["iceParameters"].keys() == {"usernameFragment", "password", "iceLite"}
    assert answer["iceParameters"]["iceLite"] is True
    candidate = answer["iceCandidates"][0]
    assert candidate["ip"] == candidate["address"] == "127.0.0.1"
    assert {"foundation", "priority", "protocol", "port", "type"} <= candidate.keys()
    over_tcp = answer["iceCandidates"][1]
    assert (over_tcp["protocol"], over_tcp["tcpType"], over_tcp["port"]) == ("tcp", "passive", candidate["port"])
    assert "tcpType" not in candidate
    assert over_tcp["priority"] < candidate["priority"]
    assert answer["dtlsParameters"]["role"] == "auto"
    assert answer["dtlsParameters"]["fingerprints"][0]["algorithm"] == "sha-256"


async def test_pymediasoup_reads_our_answers(api: Api, live: str, host: str) -> None:
    models = pytest.importorskip("pymediasoup.models.transport")
    rtp = pytest.importorskip("pymediasoup.rtp_parameters")
    answer = await transport(api, live, "recv", host)
    models.TransportOptions(**answer, iceServers=None, iceTransportPolicy=None)
    capabilities = await (await api.call("GET", f"/api/mediasoup/{live}/rtp-capabilities")).get_json()
    rtp.RtpCapabilities(**capabilities["rtpCapabilities"])
    response = await api.call("POST", f"/api/mediasoup/transports/{answer['id']}/consume", host, json=CONSUME)
    rtp.RtpParameters(**(await response.get_json())["rtpParameters"])


async def test_publishing(api: Api, live: str, host: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'send', host))['id']}"
    response = await api.call("POST", f"{path}/connect", host, json=CONNECT)
    assert response.status_code == 204
    assert await response.get_data() == b""
    response = await api.call("POST", f"{path}/produce", host, json=PRODUCE)
    assert response.status_code == 201
    assert (await response.get_json()).keys() == {"id"}
    await problem_of(await api.call("POST", f"{path}/produce", host, json=PRODUCE), 409, "wrong_state")
    await problem_of(await api.call("POST", f"{path}/connect", host, json=CONNECT), 409, "wrong_state")
    await problem_of(await api.call("POST", f"{path}/consume", host, json=CONSUME), 409, "wrong_state")


async def test_listening_without_any_token(api: Api, live: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv'))['id']}"
    assert (await api.call("POST", f"{path}/connect", json=CONNECT)).status_code == 204
    response = await api.call("POST", f"{path}/consume", json=CONSUME)
    assert response.status_code == 201
    answer = await response.get_json()
    assert answer.keys() == {"id", "producerId", "kind", "rtpParameters"}
    assert answer["producerId"] == "program"
    rtp = answer["rtpParameters"]
    assert rtp["codecs"][0] == {
        "mimeType": "audio/opus",
        "payloadType": 100,
        "clockRate": 48000,
        "channels": 2,
        "parameters": {"useinbandfec": 1, "usedtx": 0, "minptime": 10, "sprop-stereo": 1},
        "rtcpFeedback": [{"type": "nack", "parameter": ""}],
    }
    assert [(item["uri"], item["id"]) for item in rtp["headerExtensions"]] == [(LEVEL_CAPABILITY["uri"], 10)]
    assert rtp["rtcp"].keys() == {"cname", "reducedSize", "mux"}
    assert isinstance(rtp["encodings"][0]["ssrc"], int)
    await problem_of(await api.call("POST", f"{path}/produce", json=PRODUCE), 409, "wrong_state")


async def test_a_program_is_asked_for_by_name_or_not_at_all(api: Api, live: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv'))['id']}/consume"
    await problem_of(await api.call("POST", path, json={**CONSUME, "producerId": "x"}), 403, "forbidden")
    assert (await api.call("POST", path, json={**CONSUME, "producerId": "program"})).status_code == 201


async def test_the_economy_variant_is_asked_for_by_name(api: Api, live: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv'))['id']}"
    problem = await problem_of(await api.call("POST", f"{path}/consume", json={**CONSUME, "variant": "opus+red"}), 422)
    assert [error["field"] for error in problem["errors"]] == ["variant"]
    speaker = {**CONSUME, "variant": "opus3", "producerId": "x"}
    await problem_of(await api.call("POST", f"{path}/consume", json=speaker), 422, "variant_of_program_only")
    plain = f"/api/mediasoup/transports/{(await transport(api, live, 'recv'))['id']}"
    answers = [
        await (await api.call("POST", f"{way}/consume", json={**CONSUME, "variant": variant})).get_json()
        for way, variant in ((path, "opus3"), (plain, "opus"))
    ]
    economy, program = (answer["rtpParameters"]["encodings"][0]["ssrc"] for answer in answers)
    assert economy != program, "another stream"
    assert answers[0].keys() == answers[1].keys()
    stats = await (await api.call("GET", f"{path}/stats")).get_json()
    assert stats["variant"] is None, "nothing is sent yet"


async def test_people_on_stage_are_sent_each_other_and_not_themselves(api: Api) -> None:
    host, guest = await api.token(), await api.account("bob")
    live = (await api.broadcast(host, live=True))["id"]
    role = f"/api/broadcasts/{live}/roles/{guest['user']['id']}"
    assert (await api.call("PUT", role, host, json={"role": "speaker"})).status_code == 204
    sending = await transport(api, live, "send", host)
    produced = await api.call("POST", f"/api/mediasoup/transports/{sending['id']}/produce", host, json=PRODUCE)
    producer_id = (await produced.get_json())["id"]
    body = {**CONSUME, "producerId": producer_id}

    own = f"/api/mediasoup/transports/{(await transport(api, live, 'recv', host))['id']}"
    await problem_of(await api.call("POST", f"{own}/consume", host, json=body), 409, "own_producer")

    token = guest["accessToken"]
    theirs = f"/api/mediasoup/transports/{(await transport(api, live, 'recv', token))['id']}"
    unknown = await api.call("POST", f"{theirs}/consume", token, json={**CONSUME, "producerId": "x"})
    await problem_of(unknown, 404, "producer_not_found")
    program = await (await api.call("POST", f"{theirs}/consume", token, json=CONSUME)).get_json()
    speaker = await (await api.call("POST", f"{theirs}/consume", token, json=body)).get_json()
    assert speaker["producerId"] == producer_id
    ssrcs = [consumer["rtpParameters"]["encodings"][0]["ssrc"] for consumer in (program, speaker)]
    assert len(set(ssrcs)) == 2
    assert (await api.call("DELETE", f"{theirs}/consumers/{speaker['id']}", token)).status_code == 204
    gone = await api.call("DELETE", f"{theirs}/consumers/{speaker['id']}", token)
    await problem_of(gone, 404, "consumer_not_found")

    assert (await api.call("POST", f"{theirs}/consume", token, json=body)).status_code == 201
    assert (await api.call("DELETE", role, host)).status_code == 204
    await problem_of(await api.call("POST", f"{theirs}/consume", token, json=body), 403, "forbidden")
    session = api.services.engine.session(theirs.rsplit("/", 1)[1])
    assert session is not None
    assert session.speakers == []


async def test_restart_stats_and_delete(api: Api, live: str) -> None:
    answer = await transport(api, live, "recv")
    path = f"/api/mediasoup/transports/{answer['id']}"
    response = await api.call("POST", f"{path}/restart-ice")
    assert response.status_code == 200
    fresh = (await response.get_json())["iceParameters"]
    assert fresh.keys() == answer["iceParameters"].keys()
    assert fresh["usernameFragment"] != answer["iceParameters"]["usernameFragment"]
    response = await api.call("GET", f"{path}/stats")
    assert response.status_code == 200
    assert {"state", "packetsIn", "roundTripS"} <= (await response.get_json()).keys()
    assert (await api.call("DELETE", path)).status_code == 204
    await problem_of(await api.call("DELETE", path), 404, "session_not_found")


CALLS = [
    ("POST", "/connect", CONNECT),
    ("POST", "/produce", PRODUCE),
    ("POST", "/consume", CONSUME),
    ("POST", "/restart-ice", None),
    ("GET", "/stats", None),
    ("DELETE", "", None),
]


async def test_a_transport_answers_to_its_owner_alone(api: Api, live: str, host: str) -> None:
    other = await api.token("other")
    guest = api.services.auth.issue_guest(live, "guest1", "Guest")
    foreign_guest = api.services.auth.issue_guest(live, "guest2", "Guest")
    for owner, strangers in ((host, (None, other, guest)), (guest, (None, host, foreign_guest))):
        path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv', owner))['id']}"
        for method, suffix, body in CALLS:
            for stranger in strangers:
                response = await api.call(method, path + suffix, stranger, json=body)
                await problem_of(response, 404, "session_not_found")
        assert (await api.call("GET", path + "/stats", owner)).status_code == 200


async def test_an_unknown_transport(api: Api) -> None:
    for method, suffix, body in CALLS:
        response = await api.call(method, f"/api/mediasoup/transports/nope{suffix}", json=body)
        await problem_of(response, 404, "session_not_found")


async def test_who_may_publish(api: Api, live: str) -> None:
    path = f"/api/mediasoup/{live}/transports"
    guest = api.services.auth.issue_guest(live, "guest1", "Guest")
    for token in (None, guest, await api.token("bob")):
        await problem_of(await api.call("POST", path, token, json={"direction": "send"}), 403, "forbidden")


async def test_a_show_that_is_not_live_has_no_media(api: Api, host: str) -> None:
    broadcast = await api.broadcast(host)
    path = f"/api/mediasoup/{broadcast['id']}/transports"
    for direction in ("send", "recv"):
        await problem_of(await api.call("POST", path, host, json={"direction": direction}), 409, "not_live")


async def test_a_private_show_is_not_there_for_strangers(api: Api, host: str) -> None:
    broadcast = await api.broadcast(host, live=True, visibility="private")
    for token in (None, await api.token("bob")):
        await problem_of(await api.call("GET", f"/api/mediasoup/{broadcast['id']}/rtp-capabilities", token), 404)
        path = f"/api/mediasoup/{broadcast['id']}/transports"
        await problem_of(await api.call("POST", path, token, json={"direction": "recv"}), 404, "not_found")


def changed(path: str, value: object) -> dict[str, Any]:
    """PRODUCE with one thing in rtpParameters replaced."""
    parameters = {**PRODUCE["rtpParameters"], path: value}
    return {**PRODUCE, "rtpParameters": parameters}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({**PRODUCE, "kind": "video"}, "kind"),
        (changed("codecs", []), "rtpParameters.codecs"),
        (changed("codecs", [{"mimeType": "audio/opus", "clockRate": 48000}]), "rtpParameters.codecs[0].payloadType"),
        (changed("encodings", [{"ssrc": 2**32}]), "rtpParameters.encodings[0].ssrc"),
        (changed("encodings", [{"ssrc": -1}]), "rtpParameters.encodings[0].ssrc"),
        (changed("mid", "m" * 100), "rtpParameters.mid"),
        (changed("headerExtensions", [{"uri": "x", "id": 0}]), "rtpParameters.headerExtensions[0].id"),
    ],
)
async def test_produce_names_the_field_that_is_wrong(
    api: Api, live: str, host: str, body: dict[str, Any], field: str
) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'send', host))['id']}/produce"
    problem = await problem_of(await api.call("POST", path, host, json=body), 422)
    assert problem["errors"][0]["field"] == field


async def test_media_we_do_not_speak_is_refused_with_a_reason(api: Api, live: str, host: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'send', host))['id']}"
    codec = {**PRODUCE["rtpParameters"]["codecs"][0], "mimeType": "audio/PCMU", "clockRate": 8000}
    response = await api.call("POST", f"{path}/produce", host, json=changed("codecs", [codec]))
    problem = await problem_of(response, 400, "unsupported_media")
    assert "Opus" in problem["detail"]
    md5 = {"dtlsParameters": {"fingerprints": [{"algorithm": "md5", "value": "AA:BB"}]}}
    await problem_of(await api.call("POST", f"{path}/connect", host, json=md5), 400, "unsupported_media")
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv', host))['id']}/consume"
    response = await api.call("POST", path, host, json={"rtpCapabilities": {"codecs": []}})
    await problem_of(response, 400, "unsupported_media")


@pytest.mark.parametrize("body", [{}, {"direction": "both"}, {"direction": 5}])
async def test_transports_names_the_field_that_is_wrong(api: Api, live: str, body: dict[str, Any]) -> None:
    problem = await problem_of(await api.call("POST", f"/api/mediasoup/{live}/transports", json=body), 422)
    assert problem["errors"][0]["field"] == "direction"


@pytest.mark.parametrize(
    ("dtls", "field"),
    [
        ({}, "dtlsParameters.fingerprints"),
        ({"fingerprints": []}, "dtlsParameters.fingerprints"),
        ({"fingerprints": [{"algorithm": "sha-256"}]}, "dtlsParameters.fingerprints[0].value"),
        ({"role": "boss", "fingerprints": [FINGERPRINT]}, "dtlsParameters.role"),
    ],
)
async def test_connect_names_the_field_that_is_wrong(api: Api, live: str, dtls: object, field: str) -> None:
    path = f"/api/mediasoup/transports/{(await transport(api, live, 'recv'))['id']}/connect"
    problem = await problem_of(await api.call("POST", path, json={"dtlsParameters": dtls}), 422)
    assert problem["errors"][0]["field"] == field
