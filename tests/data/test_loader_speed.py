from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks import loader

    return loader


def test_the_benchmark_loads_the_same_frames_in_every_form(benchmark, tmp_path):
    tables = benchmark.write(tmp_path, 6, 32, None)
    loaders = benchmark._loaders(tmp_path, tables, 32, 4, workers=0)
    for (plain, _), jpeg, pack in zip(*loaders.values(), strict=True):
        assert plain.mul(255).round().byte().equal(jpeg["image"])
        assert pack["image"].equal(jpeg["image"])
        assert len(plain) in (4, 2)
    found = benchmark.measure(count=4, size=32, batch=2, repeats=2)
    assert found.faster.keys() == {"jpeg", "pack"}
    assert found.rates.keys() == {"plain", "jpeg", "pack"}
    assert 0 < found.kilobytes < 3


def test_the_benchmark_opens_an_index_from_the_folders_and_from_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks import manifest

    monkeypatch.setattr(manifest, "_UNTIL_REMEMBERED", 0)
    found = manifest.measure(identities=6, repeats=2)
    assert found["folders"].median > 0
    assert found["remembered"].median > 0
