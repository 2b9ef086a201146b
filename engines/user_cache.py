"""Where what can be made again is kept for this user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/edgepose`, by default under `~/.cache`, and for a user without a home under the folder of temporary files."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor an entry in the password file, as in many containers
        home = Path(tempfile.gettempdir())
    return home / "edgepose"
