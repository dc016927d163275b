"""Fixtures that several areas share, and when shapes are checked."""

import os
from pathlib import Path

# Before numpy is imported. Two workers on two cores, each with two threads of BLAS, take three times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]
# A fit calls these some hundred thousand times, and their checks would double the time of the tests. A process of
# its own checks them too: test_shapes.py.
INNER = {"objective", "power_sum", "bound_law", "function_law", "newton", "problem"}


def check_shapes(besides: set[str]) -> None:
    """Check the shapes and types that every module of `analysis` states, in every call, but for some modules."""
    stated = [
        path
        for path in sorted((ROOT / "analysis").rglob("*.py"))
        if "from jaxtyping import" in path.read_text()
    ]
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in stated if path.stem not in besides
    ]
    install_import_hook(names, "beartype.beartype")


# Side by side in several workers (make test) the checks are left to test_shapes.py: they are a fifth of the time.
# The slow set (CHECK_SHAPES), and whoever runs a file by itself, has them in every call.
if "PYTEST_XDIST_WORKER" not in os.environ or "CHECK_SHAPES" in os.environ:
    check_shapes(besides=INNER)


@pytest.fixture(scope="session")
def published() -> Path:
    """Other people's results, beside a checkout; not redistributable, so absent in most places."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "published"
    if not folder.is_dir():
        pytest.skip(f"the published tables are not at {folder}: their figures are not checked")
    return folder


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for corpora, each scanned once for all the tests that train on it."""
    return tmp_path_factory.mktemp("corpora")
