"""`python -m edgepose.runtime.daemon`."""

from edgepose.runtime.daemon.cli import main

main()
