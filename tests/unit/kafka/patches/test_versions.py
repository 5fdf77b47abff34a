"""Patches refuse a library of a version that they were not written for."""

from collections.abc import Iterator
from importlib import metadata

import pytest

from poise.errors import SetupError
from poise.kafka.patches import lenient_fetch
from poise.kafka.patches.versions import SUPPORTED, check_version


@pytest.fixture(autouse=True)
def uncached() -> Iterator[None]:
    check_version.cache_clear()
    yield
    check_version.cache_clear()


@pytest.mark.parametrize("library", SUPPORTED)
def test_the_installed_version_is_supported(library: str) -> None:
    check_version(library)


@pytest.mark.parametrize("installed", ["0.13.9", "0.15.0", "0.1.4", "1.14.0"])
def test_another_minor_version_is_refused_with_what_to_install(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: installed)
    with pytest.raises(SetupError) as raised:
        lenient_fetch.install()
    assert str(raised.value) == (
        f"aiokafka {installed} is installed, but Poise replaces internals of aiokafka 0.14.x: install aiokafka==0.14.*"
    )


def test_a_patch_version_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "0.14.99")
    check_version("aiokafka")
