"""Serve the report of an experiment on this machine's loopback address while the experiment runs."""

from katib_flow.cli.records import as_seen_here
from katib_flow.cli.ui import Terminated, check_free, terminated_by_signals
from katib_flow.errors import KatibFlowError
from katib_flow.tracking import Store


def serve_report(store: Store, name: str, port: int) -> None:
    """Serve the report of an experiment until this process is interrupted or terminated.

    Args:
        name: name or run id of the experiment; the newest one of that name, even if a newer one begins meanwhile.
        port: a port of this machine; 0 for any free one.

    Raises:
        KatibFlowError: the port is taken, there is no such experiment, or Plotly is not installed.
    """
    from katib_flow.reports.live import Newest, Server
    from katib_flow.reports.stored import snapshot_of

    run_id = store.find(name).run_id
    newest = Newest(lambda: snapshot_of(store, as_seen_here(store.get(run_id))))
    newest.get()
    if port:
        check_free(port)
    try:
        server = Server(port, newest)
    except OSError as error:
        raise KatibFlowError(f"--port: found {port}, need a free port of this machine ({error.strerror})") from None
    print(f"the report of {name}: {server.address}; Ctrl-C ends it", flush=True)
    try:
        with server, terminated_by_signals():
            server.serve_forever()
    except (KeyboardInterrupt, Terminated):
        return
