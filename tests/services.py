"""Services of Katib's gRPC API for tests: a program of its own, and one that answers with a function."""

import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "outside" / "programs"
Answers = Callable[[Callable[[Any], Any]], str]
"""From what answers a request to the address of a service."""


@contextmanager
def served(name: str) -> Generator[str]:
    """The address of a service that runs as a program of its own."""
    command = [sys.executable, str(PROGRAMS / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@contextmanager
def answering(service: str, method: str) -> Generator[Answers]:
    """Serves functions as a method of a service."""
    import grpc

    from katib_flow.katib_api.calls import handlers

    servers: list[Any] = []
    with ThreadPoolExecutor(2) as pool:

        def serve(reply: Callable[[Any], Any]) -> str:
            server = grpc.server(pool)
            server.add_generic_rpc_handlers([handlers(service, {method: reply})])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            servers.append(server)
            return f"127.0.0.1:{port}"

        yield serve
        for server in servers:
            server.stop(None).wait()
