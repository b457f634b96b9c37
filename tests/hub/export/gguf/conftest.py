from pathlib import Path

import pytest

from tests.edge_agent.training.tokenizer_folders import save_all


@pytest.fixture(scope="session")
def tokenizer_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders by the kind of tokenizer that they hold."""
    return save_all(tmp_path_factory.mktemp)
