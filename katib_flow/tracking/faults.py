"""Faults between us and MLflow: retried if that may help, and explained in one clear message."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from katib_flow.errors import KatibFlowError, TrackingError, TrackingUnavailable
from katib_flow.tracking.api import ApiError

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 0.1  # upper bound; that of each further pause is twice as long
LONGEST_PAUSE_SECONDS = 10.0
PASSING = (408, 429, 500, 502, 503, 504, *range(520, 528))  # HTTP statuses; the last ones are Cloudflare's
_BUSY = re.compile(
    r"database (table )?is (locked|busy)|deadlock"
    r"|UNIQUE constraint failed|violates unique constraint|Duplicate entry"  # a race: the next attempt sees the row
    r"|QueuePool limit of size",  # all of MLflow's database connections are taken, which it calls a bad request
    re.IGNORECASE,
)
_UNREACHED = re.compile(r"^API request to .* failed with (timeout )?exception", re.MULTILINE)
_ANSWERED = re.compile(  # a status that MLflow leaves only in the text
    r"^API request to endpoint \S+ failed with error code (\d{3})"  # the answer was not JSON
    r"|^(\d{3}) (?:Client|Server) Error"  # a download failed: requests
    r"|^An error occurred \((\d{3})\)",  # and boto3
    re.MULTILINE,
)
_DATABASE_AWAY = re.compile(  # messages of PostgreSQL and MySQL drivers for a database that is down, starting or full
    r"connection (was |is |has been )?(refused|reset|lost|closed|bad|timed out|timeout)|closed the connection"
    r"|terminating connection|lost connection|gone away|(could not|can't|cannot) connect|is starting up"
    r"|is shutting down|recovery mode|not yet accepting connections|too many (clients|connections)|connection slots"
    r"|server is running locally|server running locally"
    r"|timeout expired|multiple connection attempts failed|network is unreachable|no route to host|translate host name",
    re.IGNORECASE,
)
_DATABASE_REFUSES = re.compile(r"authentication failed|access denied|does not exist|no pg_hba|unknown database", re.I)
_HOPELESS = re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|No connection adapters|Invalid URL")
_DRIVERS = {"MySQLdb": "mysqlclient", "psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary"}
"""The packages of the modules that SQLAlchemy imports for a database, if their names differ."""
_WRAPPING = ("[SQL:", "[parameters:", "(Background on", "The following failures occurred", "##### File")


class Faults:
    """Runs calls to MLflow: after a server fault, a call is tried again for ``patience_seconds``, with growing pauses.

    Attributes:
        away_since: when the first call failed since the last one that succeeded, in seconds since the epoch; None if
            the last call succeeded.
    """

    def __init__(self, uri: str, patience_seconds: float) -> None:
        self.uri, self.patience_seconds = uri, patience_seconds
        self.away_since: float | None = None
        self._own = threading.local()

    @contextmanager
    def patience(self, seconds: float) -> Generator[None]:
        """Replace ``patience_seconds`` for the calls of this thread in the block."""
        self._own.patience_seconds = seconds
        try:
            yield
        finally:
            del self._own.patience_seconds

    def run(self, call: Callable[[], T], patience_seconds: float | None = None) -> T:
        """Return the result of a call.

        Raises:
            TrackingUnavailable: all attempts failed; a later call may succeed.
            TrackingError: the call failed, and another attempt would not help.
        """
        own: float = getattr(self._own, "patience_seconds", self.patience_seconds)
        retrying = Retrying(
            retry=retry_if_exception(self.transient),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(own if patience_seconds is None else patience_seconds),
            reraise=True,
        )
        try:
            return retrying(lambda: self._noted(call))
        except KatibFlowError:
            raise
        except Exception as error:
            message = explain(self.uri, error)
            if not self.transient(error):
                raise TrackingError(message) from error
            waited = retrying.statistics.get("delay_since_first_attempt", 0.0)
            raise TrackingUnavailable(message + (f" (tried for {_duration(waited)})" if waited >= 1 else "")) from error

    def _noted(self, call: Callable[[], T]) -> T:
        """Make the call once, and note whether the store answers."""
        try:
            result = call()
        except Exception as error:
            if self.away_since is None and self.transient(error):
                self.away_since = time.time()
            raise
        self.away_since = None
        return result

    def transient(self, error: BaseException) -> bool:
        """True if the same call may succeed a little later."""
        text = str(error)
        if isinstance(error, KatibFlowError) or _HOPELESS.search(text):
            return False
        if _BUSY.search(text):
            return True
        if not self.uri.startswith("http"):  # MLflow's SQL store: its error codes do not show what is transient
            reason = text.partition("[SQL:")[0]  # the rest may contain values from users
            return bool(_DATABASE_AWAY.search(reason)) and not _DATABASE_REFUSES.search(reason)
        return isinstance(error, ConnectionError | TimeoutError) or http_status(error) in PASSING


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind an error of MLflow or of requests; 503 if there was no answer, None if it is unknown."""
    return next((status for cause in _causes(error) if (status := _status(cause)) is not None), None)


def _status(error: Any) -> int | None:
    if isinstance(error, ApiError):
        return error.status
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # boto3's
        response = cast(dict[str, Any], response)
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    if response is not None:
        return int(getattr(response, "status_code", 500))
    if answered := _ANSWERED.search(str(error)):
        return int(answered[answered.lastindex or 0])
    if _UNREACHED.search(str(error)) or _module(error) == "requests":
        return 503
    if type(error).__name__ == "RestException":  # an answer of the server; MLflow raises its other errors locally
        return int(error.get_http_status_code())
    return None


def error_code(error: BaseException) -> str:
    """MLflow's name for an error, such as RESOURCE_DOES_NOT_EXIST, or ""."""
    return next((str(code) for cause in _causes(error) if (code := getattr(cause, "error_code", None))), "")


def _module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def shown(uri: str) -> str:
    """A store's address, or a text that contains it, without passwords, to be printed or stored.

    A user name stays if it is followed by a password; alone it may be a token.
    """
    text = re.sub(
        r"://(?!/)(?:([^\s'\":/@]*):)?[^\s'\"]*@", lambda match: f"://{match[1]}@" if match[1] else "://", uri
    )
    return re.sub(r"([?&](?:\w*passw(?:or)?d|\w*token|\w*secret)=)[^&\s'\"]*", r"\1", text, flags=re.IGNORECASE)


def has_password(uri: str) -> bool:
    """True if an address contains a password, a token or a secret."""
    return shown(uri) != uri


def explain(uri: str, error: BaseException) -> str:
    """Explain an error in one message: where it happened, what happened and what would help."""
    text, where = shown(_short(error)), f"MLflow at {shown(uri)}"
    if "Invalid Host header" in str(error):
        host = urlsplit(uri).netloc.rpartition("@")[2]
        return (
            f"{where} refuses the host name {host!r} (403 Invalid Host header): start the server with "
            f"--allowed-hosts {host} (a list of all names and ports that clients use for it)"
        )
    if not uri.startswith("http"):
        reason = "the disk is full" if isinstance(error, sqlite3.Error) and "full" in text else text
        if driver := next((cause.name for cause in _causes(error) if isinstance(cause, ModuleNotFoundError)), None):
            package = _DRIVERS.get(driver, driver)
            reason = f"its driver, the module {driver}, is not installed: pip install {package}"
        return f"{shown(uri.removeprefix('sqlite:///'))}: the MLflow store cannot be used: {reason}"
    status = http_status(error)
    if status in (401, 403):
        need = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return f"{where} refuses access ({status}): {need}: {text}"
    if status == 503:
        return f"{where} does not answer: {text}"
    return f"{where}: {text}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _short(error: BaseException) -> str:
    """The first line of an error, without the text that SQLAlchemy and urllib3 wrap around it."""
    text = str(error)
    if inner := re.search(r"Caused by \w+\((?:['\"]?<[^>]*>: )?(.*?)\)+$", text, re.DOTALL):
        text = inner[1].strip("'\"")
    lines = [line for line in text.strip().splitlines() if not line.startswith(_WRAPPING)]
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= 400 else line[:399] + "…"
