from collections.abc import Iterator

import pytest

from tokd_lightning.audit import intervals


@pytest.fixture(autouse=True, scope="module")
def _few_resamples(request: pytest.FixtureRequest) -> Iterator[None]:
    """Resample 200 times, but for tests of the statistics themselves."""
    with pytest.MonkeyPatch.context() as patch:
        if "statistics" not in request.module.__name__:
            patch.setattr(intervals, "RESAMPLES", 200)
        yield
