"""Requests to an MLflow server: its address, the credentials that MLflow documents, and its errors.

MLflow's own client does the same after an import of two seconds. What only it supports (AWS signatures, plugins that
authenticate or add headers) is left to it: ``connection`` sends requests through MLflow if necessary.
"""

import configparser
import json
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from katib_flow.tracking.api import ApiError

API = "/api/2.0/mlflow"
TIMEOUT_SECONDS = 60
_LEFT_TO_MLFLOW = ("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_AUTH", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")
_PLUGINS = ("mlflow.request_header_provider", "mlflow.request_auth_provider")
CONNECTIONS = 10


class Server(Protocol):
    """An MLflow server."""

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send one request, once, and return its ``requests.Response``.

        Args:
            options: those of ``requests.Session.request``.

        Raises:
            ApiError: the server answered with an error.
            requests.RequestException: there was no answer.
        """
        ...


def connection(uri: str) -> Server:
    """A server, accessed through MLflow if the environment or a plugin requires that."""
    if any(_is_set(name) for name in _LEFT_TO_MLFLOW) or any(entry_points(group=group) for group in _PLUGINS):
        return MlflowServer(uri)
    return PlainServer(uri)


class PlainServer:
    """A server that is accessed with ``requests`` alone.

    Args:
        uri: its address; a user name and a password in it are used.
    """

    def __init__(self, uri: str) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self._uri = uri.rstrip("/")
        self._timeout = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or TIMEOUT_SECONDS)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS))
        self._session.headers["User-Agent"] = "katib-flow"
        if workspace := os.environ.get("MLFLOW_WORKSPACE", "").strip():
            self._session.headers["X-MLFLOW-WORKSPACE"] = workspace
        self._authenticate(self._session)

    def _authenticate(self, session: Any) -> None:
        name, password = credentials()
        if name and password:
            session.auth = (name.encode(), password.encode())
        elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            session.auth = _Bearer(token)  # a netrc file would override a header of the session
        if certificate := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
            session.cert = certificate
        if _is_set("MLFLOW_TRACKING_INSECURE_TLS"):
            self._verify: bool | str | None = False
        else:
            self._verify = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send one request, as ``Server.request`` says."""
        options = {"timeout": self._timeout, "verify": self._verify, **options}
        return checked(self._session.request(method, f"{self._uri}{path}", **options), path)


class _Bearer:
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class MlflowServer:
    """A server that is accessed through MLflow's own function, which supports every way to log in."""

    def __init__(self, uri: str) -> None:
        from mlflow.utils.credentials import get_default_host_creds

        self._creds = get_default_host_creds(uri)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send one request, as ``Server.request`` says."""
        from mlflow.utils.rest_utils import http_request

        options = {"extra_headers": options.pop("headers", None), "timeout": TIMEOUT_SECONDS, **options}
        return checked(
            http_request(self._creds, path, method, max_retries=0, raise_on_status=False, **options),
            path,
        )


def credentials() -> tuple[str, str]:
    """The user's name and password, from the environment or ``~/.mlflow/credentials``; "" if they are not set."""
    stored: Mapping[str, str] = {}
    file = Path("~/.mlflow/credentials").expanduser()
    if file.is_file():
        parser = configparser.ConfigParser()
        parser.read(file)
        stored = dict(parser["mlflow"]) if "mlflow" in parser else {}
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    name, password = (os.environ.get(key) or stored.get(key.lower()) or "" for key in names)
    return name, password


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false")


def checked(response: Any, path: str) -> Any:
    """Check that a response is a success, and return it.

    Raises:
        ApiError: the server answered with an error.
    """
    if response.ok:
        return response
    answer = _object(response.text)
    message = str(answer.get("message") or answer.get("detail") or response.text.strip() or response.reason)
    if "error_code" not in answer:
        message = f"{response.request.method} {path}: {response.status_code}: {message}"
    raise ApiError(message, status=response.status_code, error_code=str(answer.get("error_code", "")))


def content(response: Any, path: str) -> dict[str, Any]:
    """The JSON object in a response.

    Raises:
        ApiError: it is not a JSON object, so the server is not MLflow.
    """
    answer = _object(response.text or "{}")
    if not answer and response.text.strip() not in ("", "{}"):
        raise ApiError(f"{path}: the answer is not in a valid JSON format, so not MLflow's: {response.text[:200]!r}")
    return answer


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
