from __future__ import annotations

import pytest

from tests.sandbox.specification import Specification, load_specification


@pytest.fixture(scope="session")
def specification() -> Specification:
    return load_specification()
