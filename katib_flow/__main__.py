"""``python -m katib_flow`` is ``katib-flow``."""

from katib_flow.cli import main

main()
