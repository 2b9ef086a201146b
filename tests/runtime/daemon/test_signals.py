"""What signals ask of the daemon is heard wherever they fall."""

from __future__ import annotations

import subprocess
import sys

_STORM = """
import signal
from edgepose.runtime.daemon.cli import _Asked

asked, heard = _Asked(), 0
signal.signal(signal.SIGALRM, lambda *_: asked.reload_anew(signal.SIGHUP, None))
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
while heard < 3000:
    heard += asked.reload_within(1e-4)
signal.setitimer(signal.ITIMER_REAL, 0)
asked.end_now(signal.SIGTERM, None)
assert asked.end and not asked.reload_within(0)
"""


def test_a_signal_that_falls_into_the_waiting_for_signals_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", _STORM], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
