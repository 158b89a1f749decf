"""Logging: structlog events with the same keys everywhere, as JSON for machines or as coloured lines for people.

A traceback shows where, never the local variables: among them are the secrets of requests.

Keys that recur: `claim` (namespace/name), `volume` (the volume id), `pv`, `node`, `class`, `method`, `request`.
"""

import logging
import sys
from typing import Literal

import structlog

Format = Literal["json", "console"]


def configure(*, level: str, log_format: Format) -> None:
    """Set up structlog once, for the whole process; standard-library loggers are shown from WARNING on."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors.append(structlog.processors.ExceptionRenderer(tracebacks))
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
