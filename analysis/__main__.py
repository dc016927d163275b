"""`python -m analysis VERB TABLE ...`"""

from analysis.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
