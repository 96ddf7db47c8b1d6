import pytest
import tiny

from gentheory.study.store import Store


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The slow study, run by one process that nobody disturbed."""
    return tiny.done(tmp_path_factory.mktemp("undisturbed") / "slow", tiny.slow())
