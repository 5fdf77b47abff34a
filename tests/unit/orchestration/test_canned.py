import pytest

from poise_services.orchestration.canned import choose, lookup
from poise_services.orchestration.settings import Canned

TEXTS = (
    Canned(text="everyone"),
    Canned(text="deutsch", language="de"),
    Canned(text="schwiizerdütsch", language="de-CH"),
    Canned(text="acme", tenant="acme"),
    Canned(text="acme auf deutsch", tenant="acme", language="DE"),
)


@pytest.mark.parametrize(
    ("tenant", "language", "said"),
    [
        ("acme", "de", "acme auf deutsch"),
        ("acme", "de-CH", "acme auf deutsch"),
        ("acme", "fr", "acme"),
        ("acme", None, "acme"),
        ("other", "de", "deutsch"),
        ("other", "de-AT", "deutsch"),
        ("other", "DE-ch-1901", "schwiizerdütsch"),
        ("other", "den", "everyone"),
        ("other", "fr", "everyone"),
        ("other", None, "everyone"),
    ],
)
def test_the_most_particular_text_is_said(tenant: str, language: str | None, said: str) -> None:
    assert choose(TEXTS, tenant, language) == said
    assert choose(TEXTS[::-1], tenant, language) == said, "in whatever order they are given"


def test_a_language_is_looked_up_as_rfc_4647_has_it() -> None:
    found = list(lookup("zh-Hant-CN-x-private1-private2"))  # the RFC's own example
    assert found == ["zh-hant-cn-x-private1-private2", "zh-hant-cn-x-private1", "zh-hant-cn", "zh-hant", "zh", None]
