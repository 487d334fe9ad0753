"""Examples for the OpenAPI document, by the name of their schema. A test checks each against its schema."""

from __future__ import annotations

from typing import Any

_AT = "2030-01-31T20:00:00Z"
_LATER = "2030-01-31T21:30:00Z"
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"
_USER = {"id": "q4ls2xv7ezbm3k6a", "displayName": "Ada"}
_ACCOUNT: dict[str, Any] = {
    **_USER,
    "email": "ada@example.org",
    "emailVerified": True,
    "isAdmin": False,
    "createdAt": _AT,
}
_FINGERPRINT = {"algorithm": "sha-256", "value": ":".join(["4A", "AD", "B9", "B1"] * 8)}
_BROADCAST: dict[str, Any] = {
    "id": "m3zt5wqk2hfy7n4c",
    "title": "Late Harbour",
    "description": "Vinyl, no playlist, one candle.",
    "status": "scheduled",
    "visibility": "public",
    "tags": ["jazz", "vinyl"],
    "scheduledAt": _LATER,
    "startedAt": None,
    "endedAt": None,
    "recordingEnabled": False,
    "rewindEnabled": False,
    "host": _USER,
    "listenerCount": 0,
    "createdAt": _AT,
    "updatedAt": _AT,
    "yourRole": None,
}

_RECORDING: dict[str, Any] = {
    "id": "w5xq3ohp7dlz2r6e",
    "broadcastId": "m3zt5wqk2hfy7n4c",
    "status": "ready",
    "title": "Late Harbour",
    "description": "",
    "part": 1,
    "startedAt": _AT,
    "endedAt": _LATER,
    "durationS": 5400.02,
    "sizeBytes": 43_200_160,
    "contentType": "audio/ogg; codecs=opus",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "mediaStartS": 0.0,
    "lostS": 0.0,
    "endReason": "ended",
    "failure": None,
    "playable": True,
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "Register": {"email": "ada@example.org", "password": "correct horse battery", "displayName": "Ada"},
    "Login": {"email": "ada@example.org", "password": "correct horse battery"},
    "RefreshToken": {"refreshToken": "7Xb0mW1yqkq0n1mS3b5vB0e3s4h9x2aQ"},
    "SetupAdmin": {
        "token": "Zq0m-1yqkq0n1mS3b5vB0e3s4h9x2aQ7",
        "email": "ada@example.org",
        "password": "correct horse battery",
        "displayName": "Ada",
    },
    "AcceptInvite": {"invite": "5yq2n4ktm3zt5wqk2hfy7n4c6qpl7xzd", "name": "Bo"},
    "InviteAccepted": {"broadcastId": "m3zt5wqk2hfy7n4c", "token": _JWT},
    "ChangePassword": {"currentPassword": "correct horse battery", "newPassword": "staple of the correct horse"},
    "RequestPasswordReset": {"email": "ada@example.org"},
    "ConfirmPasswordReset": {"token": "Zq0m-1yqkq0n1mS3b5vB0e3s4h9x2aQ7", "password": "staple of the correct horse"},
    "VerifyEmail": {"token": "Zq0m-1yqkq0n1mS3b5vB0e3s4h9x2aQ7"},
    "UpdateMe": {"displayName": "Ada L."},
    "DeleteMe": {"password": "correct horse battery"},
    "OwnUser": _ACCOUNT,
    "SignedInAnswer": {
        "user": _ACCOUNT,
        "accessToken": _JWT,
        "refreshToken": "7Xb0mW1yqkq0n1mS3b5vB0e3s4h9x2aQ",
        "expiresIn": 900,
    },
    "NewBroadcast": {
        "title": "Late Harbour",
        "description": "Vinyl, no playlist, one candle.",
        "scheduledAt": _LATER,
        "visibility": "public",
        "tags": ["jazz", "vinyl"],
    },
    "BroadcastChanges": {"title": "Late Harbour: the Lisbon sessions"},
    "BroadcastAnswer": _BROADCAST,
    "BroadcastPage": {"items": [_BROADCAST], "nextCursor": None},
    "NewChapter": {"title": "The Lisbon sessions"},
    "RecordingChanges": {"title": "Late Harbour, the whole night", "description": "With the band."},
    "RecordingAnswer": _RECORDING,
    "RecordingPage": {"items": [_RECORDING], "nextCursor": None},
    "NewExport": {"format": "m4a"},
    "ExportAnswer": {
        "format": "m4a",
        "status": "running",
        "progress": 0.42,
        "sizeBytes": None,
        "durationS": None,
        "error": None,
        "requestedAt": _AT,
        "finishedAt": None,
        "url": None,
    },
    "WhereaboutsAnswer": {"place": "uploading", "sizeBytes": 31457280, "sentBytes": 26214400, "trouble": None},
    "Peaks": {
        "version": 2,
        "channels": 1,
        "sample_rate": 48000,
        "samples_per_pixel": 4800,
        "bits": 8,
        "length": 2,
        "data": [-12, 14, -90, 87],
    },
    "LoudnessAnswer": {"integratedLufs": -16.4, "rangeLu": 6.1, "truePeakDbtp": -1.2},
    "NewRole": {"role": "moderator"},
    "NewBan": {"reason": "Shouts over everyone.", "until": _LATER},
    "NewTransport": {"direction": "recv"},
    "Connect": {"dtlsParameters": {"role": "client", "fingerprints": [_FINGERPRINT]}},
    "Produce": {
        "kind": "audio",
        "rtpParameters": {
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
            "encodings": [{"ssrc": 31415926}],
        },
    },
    "Consume": {
        "rtpCapabilities": {
            "codecs": [
                {
                    "kind": "audio",
                    "mimeType": "audio/opus",
                    "preferredPayloadType": 111,
                    "clockRate": 48000,
                    "channels": 2,
                }
            ]
        }
    },
    "HlsAddress": {
        "url": "/hls/7f3kq2c4m5n6p7qa/bGl2ZQ/index.m3u8",
        "expiresAt": "2026-05-01T18:15:00Z",
        "mediaTimeZero": "2026-05-01T18:00:00.25Z",
        "windowS": 1800,
        "preferred": False,
    },
    "Health": {"status": "ok"},
    "Ready": {"status": "ready", "database": "ok", "migrations": "ok", "media": "ok"},
    "Problem": {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such broadcast.",
        "code": "not_found",
    },
}

#: For bodies that are not JSON, by media type.
TEXT_EXAMPLES = {
    "application/rss+xml": '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0">…</rss>\n',
    "application/json+chapters": '{"version":"1.2.0","chapters":[{"startTime":0.0,"title":"Hello"}]}',
    "application/sdp": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n…",
    "application/trickle-ice-sdpfrag": "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n…",
    "application/vnd.apple.mpegurl": "#EXTM3U\n#EXT-X-VERSION:9\n…",
    "text/xml": "<iceresponse><message>Metadata update successful</message><return>1</return></iceresponse>",
    "text/plain": "# TYPE lac_listeners gauge\nlac_listeners 42.0\n",
}
