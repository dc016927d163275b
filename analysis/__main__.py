"""`python -m analysis VERB TABLE ...`"""

import sys

from analysis.cli import main

if __name__ == "__main__":
    try:
        status = main()
    except ModuleNotFoundError as error:  # a checkout, and a Python that nothing was installed for
        if str(error.name).startswith("analysis"):
            raise
        print(
            f"analysis: {error.name} is not installed for {sys.executable}: pip install -e . (docs/install.md), "
            "or make's .venv/bin/python",
            file=sys.stderr,
        )
        status = 2
    raise SystemExit(status)
