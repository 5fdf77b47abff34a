import pytest

from poise_services.orchestration.canned import choose_text, language_ranges
from poise_services.orchestration.settings import CannedText

TEXTS = (
    CannedText(text="everyone"),
    CannedText(text="deutsch", language="de"),
    CannedText(text="schwiizerdütsch", language="de-CH"),
    CannedText(text="acme", tenant="acme"),
    CannedText(text="acme auf deutsch", tenant="acme", language="DE"),
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
def test_the_most_specific_text_is_sent(tenant: str, language: str | None, said: str) -> None:
    assert choose_text(TEXTS, tenant, language) == said
    assert choose_text(TEXTS[::-1], tenant, language) == said, "in whatever order they are given"


def test_a_language_is_looked_up_as_in_rfc_4647() -> None:
    found = list(language_ranges("zh-Hant-CN-x-private1-private2"))  # the RFC's own example
    assert found == ["zh-hant-cn-x-private1-private2", "zh-hant-cn-x-private1", "zh-hant-cn", "zh-hant", "zh", None]
