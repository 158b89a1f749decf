"""Round every call: a request id, a log line, metrics, and a status for whatever it raises.

The services raise errors and know no gRPC status; here is the one place that turns an error into the answer. A call
whose client cancelled it or ran out of time is cancelled in turn; what it has begun in a backend goes on below
(`volumes`), and the client learns how that ended when it repeats the call.
"""

import asyncio
import dataclasses
import inspect
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf import message
from grpc import aio

from provisioner import errors, metrics
from provisioner.csi import redact, status

_log = structlog.get_logger(__name__)

_Context = aio.ServicerContext[Any, Any]
# Generic in its types only, not when it runs.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
# What handlers look like in grpc.aio; the types of grpc's method handlers know only the synchronous shape.
_Behaviour = Callable[[Any, Any], Any]

# Asked for ever by somebody, some of it once a minute per volume; it would bury the calls that matter.
_QUIET = (
    "/Probe",
    "GetCapabilities",
    "/GetPluginCapabilities",
    "/GetPluginInfo",
    "/GetInfo",
    "/GetCapacity",
    "/NodeGetVolumeStats",
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for a request that is no message of its type, so that it is answered and logged like any other."""

    why: str


class Observer(aio.ServerInterceptor):
    """Observes each unary call, and answers its errors."""

    def __init__(self, measured: metrics.Metrics) -> None:
        self._metrics = measured

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Put `_observed` between gRPC and the handler; a method that nobody serves stays UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._observed(handler_call_details.method, handler.unary_unary),
            request_deserializer=_reading(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _observed(self, method: str, behaviour: _Behaviour) -> _Behaviour:
        async def observed(request: message.Message | _Unreadable, context: _Context) -> Any:
            with structlog.contextvars.bound_contextvars(method=method, request=secrets.token_hex(4)):
                return await self._serve(method, behaviour, request, context)

        return observed

    async def _serve(
        self, method: str, behaviour: _Behaviour, request: message.Message | _Unreadable, context: _Context
    ) -> Any:
        if isinstance(request, message.Message) and _log.is_enabled_for(logging.DEBUG):
            _log.debug("call", fields=redact.loggable(request))
        began = time.monotonic()
        code = grpc.StatusCode.OK
        failure: status.Status | None = None
        with self._metrics.csi_server_in_flight.labels(method_name=method).track_inprogress():
            try:
                return await _answer(behaviour, request, context)
            except asyncio.CancelledError:
                code = _why_cancelled(context)
                raise
            except Exception as error:  # noqa: BLE001 - what a bug raises has to be answered, too
                failure = status.of(error, method=method, request_id=_request_id())
                code = failure.code
                if not failure.expected:
                    _log.exception("call failed unexpectedly")
                await context.abort(failure.code, failure.message)
            finally:
                self._finish(method, code, time.monotonic() - began, failure)

    def _finish(self, method: str, code: grpc.StatusCode, seconds: float, failure: status.Status | None) -> None:
        self._metrics.csi_server_seconds.labels(method_name=method, grpc_status_code=code.name).observe(seconds)
        level = logging.INFO if code is grpc.StatusCode.OK else logging.WARNING
        if method.endswith(_QUIET) and code is grpc.StatusCode.OK:
            level = logging.DEBUG
        told = {} if failure is None else {"error": failure.message}
        _log.log(level, "served", code=code.name, seconds=round(seconds, 4), **told)


def _reading(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return raw if deserialize is None else deserialize(raw)
        except message.DecodeError as error:
            return _Unreadable(str(error))

    return read


async def _answer(behaviour: _Behaviour, request: message.Message | _Unreadable, context: _Context) -> Any:
    if isinstance(request, _Unreadable):
        raise errors.InvalidRequestError(f"the request cannot be read: {request.why}")
    reply = behaviour(request, context)
    # The generated base answers UNIMPLEMENTED from a plain function.
    return await reply if inspect.isawaitable(reply) else reply


def _why_cancelled(context: _Context) -> grpc.StatusCode:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars()["request"])
