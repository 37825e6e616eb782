"""The command line: parse, call the package, print.

Exit codes: 0 done, 1 the experiment failed or a replay differs, 2 bad input, 130 interrupted.
"""

import os
import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Entry point: a user's mistake is one message on stderr; a traceback is a bug in katib-flow."""
    from katib_flow.cli.app import app
    from katib_flow.errors import KatibFlowError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a value may contain what this terminal cannot encode
    try:
        app(prog_name="katib-flow")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would interrupt the exit of the interpreter
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except KatibFlowError as error:
        print(f"error: {error}" if "\n" not in str(error) else error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `katib-flow trials x | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
