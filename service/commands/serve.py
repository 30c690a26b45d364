"""`robomask serve`: command line and environment -> settings -> a running server."""

from __future__ import annotations

import gc
import logging
import signal
import sys

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.app import create_app, create_models
from service.commands.refusal import refuse
from service.errors import StartFailed
from service.machine.allocator import keep_freed_memory
from service.settings import Settings, unknown_variables
from service.telemetry import logs
from service.web.protocol import server_options
from service.web.server import Server

__all__ = ["main"]

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until told to stop; returns the process's exit status."""
    try:
        settings = CliApp.run(Settings, cli_args=argv)
    except ValidationError as error:
        return refuse("serve", error)
    keep_freed_memory()
    logs.configure(settings.log_level, settings.log_format)
    if unknown := unknown_variables():
        _log.warning("these environment variables are no settings, are they misspelt? %s", ", ".join(unknown))
    try:
        return _serve(settings)
    except StartFailed as error:
        print(f"robomask serve: {error}", file=sys.stderr)
        return 1


def _serve(settings: Settings) -> int:
    models = create_models(settings)
    failures: list[BaseException] = []

    def stop(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, models, stop)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="on",
        **server_options(settings, app.express),
    )
    server = Server(config, models)
    gc.freeze()  # what is alive now lives to the end; looking through it again and again would be pauses for nothing
    # Having stopped in good order, uvicorn raises the signal once more; the exit status is to say 0 all the same.
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(signal, "SIGHUP") and not sys.stderr.isatty():
        signal.signal(signal.SIGHUP, lambda *_: None)  # until the service listens to it
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    except SystemExit:  # uvicorn's, when it cannot listen; it has said why
        return 1
    if failures:
        raise failures[0]
    return 0 if server.started else 1
