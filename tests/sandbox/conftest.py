from __future__ import annotations

import pytest

from tests.sandbox.specification import Specification, load_specification


@pytest.fixture
def specification() -> Specification:
    """OpenAI's, of what the sandbox answers under its first address."""
    return load_specification("openai.yaml", prefix="/v1", error="ErrorResponse")
