"""The command `lmscale` (`python -m lmscale`): answers what needs no Hydra, and hands over to `lmscale.launch`."""

import importlib.util
import os
import sys

from lmscale.usage import usage

TRAINING = ("hydra", "joblib", "jax", "flax", "optax")  # what the extra `train` brings


def main() -> int:
    """Run the application; 2 with one line where what it needs is not installed."""
    asked = set(sys.argv[1:])
    if asked & {"-h", "--help"}:
        try:
            print(usage(), flush=True)
        except BrokenPipeError:  # `| head` has read enough; Python would complain again when it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if "--version" in asked:
        import lmscale

        print(f"lmscale {lmscale.__version__}")
        return 0
    missing = [name for name in TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"lmscale: training needs {', '.join(missing)}: pip install 'lmscale[train]' (or [cuda], [tpu]); "
            "lmscale-analysis reads tables without",
            file=sys.stderr,
        )
        return 2
    from lmscale.launch import main as launch

    return launch()


if __name__ == "__main__":
    raise SystemExit(main())
