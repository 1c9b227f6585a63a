from __future__ import annotations

import pytest

from tests.tuned import tune
from tuneforge import Model


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The built-in model, tuned on the colours of things."""
    return tune(tmp_path_factory.mktemp("tuned"))
