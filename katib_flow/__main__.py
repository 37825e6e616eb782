"""``python -m katib_flow`` runs ``katib-flow``."""

from katib_flow.cli import main

main()
