"""The parts that are the same all over the API: error answers, headers, ways to sign in, and the words about them."""

from __future__ import annotations

from typing import Any

from models import errors

Schema = dict[str, Any]


def problem(extras: Schema) -> Schema:
    """RFC 9457, closed: every error answer has this shape."""
    code = {"enum": sorted(errors.family()), "description": "Machine-readable; the list is closed."}
    properties: Schema = {
        "type": {"type": "string", "description": "Where the code is explained: `/docs#error-<code>`."},
        "title": {"type": "string", "description": "The same for every answer with this code."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": code,
        "detail": {"type": "string", "description": "What is wrong here, and what to do next."},
        "request_id": {"type": "string", "description": "Tell it to the operator; the log has it too."},
    }
    at_fault = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "JSONPath in the body, `?name` for a query argument."},
                "message": {"type": "string"},
            },
            "required": ["path", "message"],
            "additionalProperties": False,
        },
    }
    return {
        "type": "object",
        "description": "An answer other than the one asked for (RFC 9457).",
        "properties": {**properties, "errors": at_fault, **extras},
        "required": [*properties, *extras],
        "additionalProperties": False,
    }


UPGRADE_EXTRAS: Schema = {
    "received": {
        "type": "object",
        "description": "The upgrade and forwarding headers that arrived.",
        "additionalProperties": {"type": "string"},
    },
    "help": {"type": "string", "description": "Where the usual causes are explained."},
}
_TEXT = {"type": "string"}
HEADERS: Schema = {
    "ETag": {
        "description": "A document's version and a hash of it; a list's hash, without `position`.",
        "required": True,
        "schema": _TEXT,
    },
    "Location": {"description": "The address of what was created.", "required": True, "schema": _TEXT},
    "Copydesk-Position": {
        "description": "As `position` in the body: subscribe `since` it and miss nothing.",
        "required": True,
        "schema": _TEXT,
    },
    "X-Poll-Interval": {
        "description": "Seconds after which whoever polls is asked to come back.",
        "required": True,
        "schema": _TEXT,
    },
    "Copydesk-Counts": {
        "description": "The caller's counts after the change, as `GET /notifications/count` answers them: JSON such as "
        '`{"unseen":0,"unread":1,"seq":9}`.',
        "required": True,
        "schema": {"type": "string", "contentMediaType": "application/json", "pattern": r"^\{.*\}$"},
    },
    "RateLimit": {
        "description": "What is left of the limits that apply to the caller: by the name of each, `r` and the seconds "
        "`t` until all of it is there again (draft-ietf-httpapi-ratelimit-headers-10).",
        "schema": {"type": "string", "pattern": r'^"[a-z-]+";r=\d+;t=\d+(, "[a-z-]+";r=\d+;t=\d+)*$'},
    },
    "RateLimit-Policy": {
        "description": "These limits: `q` requests in `w` seconds, or bytes of bodies where `qu` says so.",
        "schema": _TEXT,
    },
    "Idempotency-Replayed": {"description": "Where the first answer is given again.", "schema": {"const": "true"}},
    "WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"const": "Bearer"}},
    "Retry-After": {"description": "Whole seconds to wait.", "required": True, "schema": _TEXT},
}
SECURITY: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "HS256 with the server's secret, or RS256 or EdDSA with a key of its JWKS file; wins.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "copydesk_session",
        "description": "Set by `POST /api/v1/session`; `__Host-copydesk_session` under TLS. Changes need a same-origin "
        "`Origin` or `Sec-Fetch-Site`.",
    },
}
