"""The error that a person can act on."""

import importlib
import sys
from typing import Any


class UserError(Exception):
    """A person's mistake: one line that names the field, its value and what would be right. Exit 2."""


def needed(package: str, given: str) -> Any:
    """Import a package that not every installation has; UserError names what needs it, FIELD=VALUE."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"{given}: needs the package {package}; {sys.executable} -m pip install {package}"
        ) from None
