"""Which errors each operation answers, by status and code. What follows from a route's declaration is worked out; what
its service decides is in the table. `tests/web/test_openapi_conformance.py` holds the server to it.
"""

from __future__ import annotations

from typing import Any

from werkzeug.routing.rules import Rule

from lac_web.api.endpoint import EndpointSpec
from lac_web.errors import PROBLEM_TYPE
from lac_web.rate_limits import RULES
from lac_web.security import Access

Errors = dict[int, set[str]]

#: By operation. Codes that any operation of that kind can answer are not repeated here.
SPECIFIC: dict[str, dict[int, tuple[str, ...]]] = {
    "register": {403: ("registration_closed",), 409: ("email_taken",)},
    "login": {401: ("invalid_credentials",)},
    "refresh": {401: ("token_invalid", "token_expired", "refresh_reused")},
    "change_password": {403: ("wrong_password",), 404: ("not_found",)},
    "confirm_password_reset": {403: ("reset_token_invalid",)},
    "verify_email": {403: ("verify_token_invalid",)},
    "request_email_verification": {404: ("not_found",), 429: ("mail_limit",), 503: ("mail_busy",)},
    "setup_admin": {403: ("setup_token_invalid",), 409: ("email_taken",)},
    "me": {404: ("not_found",)},
    "update_me": {404: ("not_found",)},
    "delete_me": {403: ("wrong_password",), 404: ("not_found",), 409: ("show_is_live", "last_admin")},
    "export_me": {404: ("not_found",)},
    "create_broadcast": {404: ("not_found",), 409: ("request_repeated",), 422: ("idempotency_key_reused",)},
    "list_broadcasts": {422: ("invalid_cursor",)},
    "update_broadcast": {403: ("forbidden",), 409: ("already_started",), 412: ("precondition_failed",)},
    "delete_broadcast": {403: ("forbidden",)},
    "start_broadcast": {403: ("forbidden",), 409: ("already_ended",), 503: ("start_failed", "shutting_down")},
    "end_broadcast": {403: ("forbidden",), 409: ("not_live",), 503: ("shutting_down",)},
    "renew_stream_key": {403: ("forbidden",), 503: ("shutting_down",)},
    "renew_invite": {403: ("forbidden",), 503: ("shutting_down",)},
    "accept_invite": {404: ("invite_invalid",)},
    "list_messages": {422: ("invalid_cursor",)},
    "start_recording": {403: ("forbidden",), 409: ("not_live",), 503: ("shutting_down",)},
    "stop_recording": {403: ("forbidden",), 409: ("not_live", "not_recording"), 503: ("shutting_down",)},
    "mark_chapter": {403: ("forbidden",), 409: ("not_live", "not_recording", "too_many_chapters")},
    "list_recordings": {404: ("not_found",), 422: ("invalid_cursor",)},
    "update_recording": {403: ("forbidden",), 412: ("precondition_failed",)},
    "delete_recording": {403: ("forbidden",), 409: ("recording_active",)},
    "get_manifest": {403: ("forbidden",), 404: ("nothing_recorded",)},
    "list_recording_messages": {422: ("invalid_cursor",)},
    "list_chapters": {404: ("nothing_recorded",)},
    "download_recording": {
        404: ("no_such_track", "nothing_recorded"),
        409: ("recording_active",),
        416: ("range_not_satisfiable",),
    },
    "download_track": {
        403: ("forbidden",),
        404: ("no_such_track", "nothing_recorded"),
        409: ("recording_active",),
        416: ("range_not_satisfiable",),
    },
    "request_export": {
        403: ("forbidden",),
        404: ("nothing_recorded",),
        409: ("recording_not_ready",),
        503: ("exports_busy",),
    },
    "get_export": {404: ("no_such_export",)},
    "delete_export": {403: ("forbidden",), 404: ("no_such_export",), 503: ("storage_unavailable",)},
    "download_export": {
        404: ("no_such_export", "export_gone"),
        409: ("export_not_ready",),
        416: ("range_not_satisfiable",),
    },
    "get_whereabouts": {403: ("forbidden",)},
    "get_peaks": {
        404: ("analysis_failed", "nothing_recorded", "export_gone"),
        409: ("analysis_pending",),
        503: ("storage_unavailable",),
    },
    "get_loudness": {404: ("analysis_failed", "nothing_recorded"), 409: ("analysis_pending",)},
    "get_episode": {
        404: ("export_gone",),
        409: ("recording_not_ready",),
        416: ("range_not_satisfiable",),
        503: ("export_pending", "exports_busy"),
    },
    "open_transport": {
        403: ("forbidden", "removed"),
        409: ("not_live", "stage_full"),
        429: ("too_many_sessions",),
        503: ("shutting_down", "overloaded", "use_hls"),
    },
    "connect_transport": {409: ("wrong_state",)},
    "produce": {400: ("unsupported_media", "protocol_error"), 409: ("wrong_state",), 422: ("audio_only",)},
    "consume": {
        400: ("unsupported_media",),
        403: ("forbidden",),
        404: ("producer_not_found",),
        409: ("wrong_state", "own_producer", "not_live", "transport_used_up"),
        422: ("variant_of_program_only",),
    },
    "close_consumer": {404: ("consumer_not_found",)},
    "restart_ice": {409: ("wrong_state",)},
    "give_role": {403: ("forbidden", "stronger_role"), 409: ("is_host",)},
    "take_role": {403: ("forbidden", "stronger_role"), 409: ("is_host",)},
    "ban_person": {
        403: ("forbidden", "stronger_role"),
        404: ("no_such_person",),
        422: ("not_yourself",),
        503: ("shutting_down",),
    },
    "lift_ban": {403: ("forbidden", "stronger_role"), 503: ("shutting_down",)},
    "list_bans": {403: ("forbidden",), 422: ("invalid_cursor",)},
    "list_sessions": {403: ("forbidden",), 422: ("invalid_cursor",)},
    "get_stats": {403: ("forbidden",)},
    "get_audit": {403: ("forbidden",), 422: ("invalid_cursor",)},
    "follow_user": {422: ("not_yourself",)},
    "list_followers": {422: ("invalid_cursor",)},
    "list_following": {422: ("invalid_cursor",)},
    "remind_me": {409: ("already_started",)},
    "ready": {503: ("migrations_pending", "media_unavailable", "shutting_down")},
    "metrics": {401: ("not_signed_in", "token_invalid"), 403: ("metrics_private",)},
    "whip_publish": {
        403: ("forbidden", "removed"),
        409: ("not_live", "stage_full", "wrong_state", "already_ended"),
        429: ("too_many_sessions",),
        503: ("shutting_down", "start_failed"),
    },
    "whep_listen": {
        403: ("forbidden", "removed"),
        409: ("not_live", "wrong_state"),
        429: ("too_many_sessions",),
        503: ("shutting_down", "overloaded", "use_hls"),
    },
    "hls_address": {403: ("removed", "room_locked"), 404: ("not_live",), 503: ("shutting_down",)},
    "hls_index": {403: ("removed", "room_locked"), 404: ("not_live",), 503: ("shutting_down",)},
    "hls_playlist": {
        400: ("bad_request",),
        401: ("token_invalid",),
        403: ("hls_expired", "removed"),
        404: ("not_live",),
        429: ("too_many_requests",),
        503: ("hls_busy", "hls_timeout", "shutting_down"),
    },
    "hls_file": {
        401: ("token_invalid",),
        403: ("hls_expired", "removed", "private"),
        404: ("not_live",),
        429: ("too_many_requests",),
        503: ("hls_busy", "hls_timeout", "shutting_down"),
    },
    "publish_source": {
        401: ("token_invalid",),
        403: ("removed",),
        409: ("not_live", "stage_full", "already_ended"),
        415: ("unsupported_media_type",),
        429: ("too_many_sessions",),
        503: ("shutting_down", "start_failed"),
    },
    "update_metadata": {
        400: ("bad_request",),
        401: ("token_invalid",),
        403: ("removed",),
        409: ("not_live", "no_source", "already_ended"),
    },
    "listen": {
        403: ("removed",),
        404: ("not_found",),
        409: ("already_ended",),
        429: ("too_many_streams", "too_many_sessions"),
        503: ("not_live", "shutting_down", "overloaded", "streams_full"),
    },
    "whip_patch": {412: ("precondition_failed",), 428: ("precondition_required",)},
    "whep_patch": {412: ("precondition_failed",), 428: ("precondition_required",)},
}

#: Variables that stand for media sessions, which have codes of their own when there is no such session.
_SESSIONS = frozenset({"transport_id", "session_id"})
#: They touch neither the database nor anything else that can be away.
_ALWAYS_THERE = frozenset({"health", "metrics"})


def errors_of(rule: Rule, operation_id: str, spec: EndpointSpec) -> dict[str, Any]:
    """OpenAPI response objects by status."""
    errors: Errors = {}

    def add(status: int, *codes: str) -> None:
        errors.setdefault(status, set()).update(codes)

    if spec.takes is not None:
        add(400, "bad_request")
        add(408, "request_timeout")
        add(413, "too_large")
        add(415, "unsupported_media_type")
        add(422, "invalid_input")
    elif spec.takes_text is not None:
        add(400, "bad_request", "malformed", "unsupported_media", "protocol_error")
        add(408, "request_timeout")
        add(413, "too_large")
        add(415, "unsupported_media_type")
        if spec.returns_text is not None:
            add(406, "unsupported_media")
    if spec.query is not None:
        add(422, "invalid_input")
    if spec.access in (Access.IDENTITY, Access.ACCOUNT):
        add(401, "not_signed_in")
    if spec.access is not Access.ANYONE:
        add(401, "token_invalid", "token_expired")
    if spec.access is Access.ACCOUNT:
        add(403, "account_needed")
    for variable in rule.arguments:
        add(404, "not_found")  # for sessions too: of what cannot be an id
        if variable in _SESSIONS:
            add(404, "session_not_found", "session_closed")
    if rule.endpoint in RULES:
        add(429, "too_many_requests")
    if operation_id not in _ALWAYS_THERE:
        add(503, "database_unavailable", "database_busy", "database_timeout", "unavailable")
    for status, codes in SPECIFIC.get(operation_id, {}).items():
        add(status, *codes)
    return {str(status): _response(status, sorted(codes)) for status, codes in sorted(errors.items())}


_PHRASES = {
    400: "The request cannot be read.",
    401: "Sign in, or sign in again.",
    403: "Known, but not allowed.",
    404: "There is no such thing, or none that you may know of.",
    406: "Nothing in the offer can be used.",
    408: "The body did not arrive in time.",
    409: "Possible in another state, not in this one.",
    412: "It has changed since you read it.",
    413: "The body is too large.",
    415: "The body is of another type than this takes.",
    416: "There are no such bytes.",
    422: "Readable, but not acceptable; `errors` names the fields.",
    428: "Send If-Match.",
    429: "Too often. Retry-After says when to come back.",
    503: "Passing trouble on our side. Retry-After says when to come back.",
}


def _response(status: int, codes: list[str]) -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    known = {"type": "object", "properties": {"code": {"type": "string", "enum": codes}}, "required": ["code"]}
    response: dict[str, Any] = {
        "description": _PHRASES[status],
        "content": {PROBLEM_TYPE: {"schema": {"allOf": [problem, known]}}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": _header("Seconds.", {"type": "integer", "minimum": 1})}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": _header("RFC 6750.", {"type": "string"})}
    return response


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}
