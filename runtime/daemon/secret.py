"""Secrets, which come from a file or an environment variable and never from the configuration itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgepose.engines.errors import ConfigError

_LONGEST = 4096


def secret_from(file: Path | None, variable: str | None, where: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The file's first line, or the variable's value; None where neither is asked for. `where` opens the message.

    Raises ConfigError, which does not say the secret.
    """
    if file is not None and variable is not None:
        raise ConfigError(f"{where}: password_file and password_env: wanted one of them")
    if variable is not None:
        if not environment.get(variable):
            raise ConfigError(f"{where}.password_env: no environment variable {variable}, or an empty one")
        return environment[variable]
    return None if file is None else _first_line(file, where)


def _first_line(file: Path, where: str) -> str:
    try:
        with file.open("rb") as opened:
            line = opened.readline(_LONGEST).rstrip(b"\r\n").decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{where}.password_file: {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}.password_file: {file}: not UTF-8 text") from error
    if not line:
        raise ConfigError(f"{where}.password_file: {file}: its first line is empty")
    return line
