"""Fixtures that several areas share."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and types of the numerical cores are checked in the test run only, on every call.
install_import_hook(["analysis.fitting", "analysis.forecasting", "analysis.detection"], "beartype.beartype")


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
