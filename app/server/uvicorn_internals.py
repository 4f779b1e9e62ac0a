"""Everything that we use of uvicorn beyond its documented interface.

uvicorn offers no hooks for connection limits or for a path past ASGI, so `strict_http`,
`connection_limits` and `fast_path` subclass its protocol. Only this module imports uvicorn's
private modules, and `MEMBERS` lists every member that we read, set, call or override. The
dependency is bounded to the minor version; a test compares the list with the installed release.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

__all__ = [
    "MEMBERS",
    "STATUS_LINE",
    "FlowControl",
    "HttpToolsProtocol",
    "RequestResponseCycle",
    "ServerState",
]

MEMBERS: Mapping[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        "connection_lost", "connection_made", "cycle", "data_received", "eof_received",
        "expect_100_continue", "flow", "headers", "loop", "on_body", "on_header",
        "on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete",
        "on_url", "parser", "pause_writing", "pipeline", "resume_writing", "send_400_response",
        "server_state", "shutdown", "tasks", "timeout_keep_alive", "timeout_keep_alive_task",
        "transport", "_unset_keepalive_if_required",
    ),
    RequestResponseCycle: (
        "disconnected", "keep_alive", "message_event", "more_body", "response_complete",
        "response_started",
    ),
    FlowControl: ("drain", "pause_reading", "resume_reading", "resume_writing", "write_paused"),
    ServerState: ("connections", "default_headers", "tasks", "total_requests"),
}  # fmt: skip
"""Each class, with the members that a live object of it must have."""


class PatientFlow(FlowControl):
    """Resumes reading once everything that was read is answered.

    uvicorn resumes with each answer: requests would arrive faster than they are answered, and
    each holds memory.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Any) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()
