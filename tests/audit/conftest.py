import pytest

from tokd_lightning.audit import intervals


@pytest.fixture(autouse=True)
def _few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample 200 times, but for tests of the statistics themselves."""
    if "statistics" not in request.module.__name__:
        monkeypatch.setattr(intervals, "RESAMPLES", 200)
