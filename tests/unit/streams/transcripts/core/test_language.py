from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.transcripts.core.language import detect_language, usable_language

SPOKEN = {
    "de": "Heute sprechen wir über die Geschichte der Eisenbahn und warum sie so wichtig für die "
    "Menschen in kleinen Dörfern war. Danach kommt unser Gast zu Wort.",
    "en": "Today we talk about the history of the railway and why it mattered so much for the "
    "people of small villages. After that our guest has the word.",
    "es": "Hoy hablamos de la historia del ferrocarril y de por qué fue tan importante para la "
    "gente de los pueblos pequeños. Después habla nuestro invitado.",
    "fr": "Aujourd'hui nous parlons de l'histoire du chemin de fer et pourquoi il a tant compté "
    "pour les habitants des petits villages. Ensuite, notre invité a la parole.",
    "ja": "今日は鉄道の歴史と、それが小さな村の人々にとってなぜ重要だったのかについて話します。"
    "その後、長年列車を運転してきたゲストが登場します。",
    "ko": "오늘은 철도의 역사와 그것이 작은 마을 사람들에게 왜 그렇게 중요했는지 이야기합니다. "
    "그 다음에는 오랫동안 기차를 운전해 온 손님의 말을 듣겠습니다.",
}


@pytest.mark.parametrize("language", SPOKEN)
def test_languages_are_told_apart(language: str) -> None:
    assert detect_language(SPOKEN[language]) == language
    assert detect_language(SPOKEN[language] * 2000) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello there, welcome.",
        "1 2 3 4 5 " * 100,
        "la la la la " * 50,
        "yeah hmm okay right ha ha " * 20,
        "asdf qwer zxcv " * 40,
        "🎙️" * 500,
    ],
)
def test_what_is_not_clear_is_left_open(text: str) -> None:
    assert detect_language(text) == ""


@settings(max_examples=30)
@given(st.text(max_size=400))
def test_no_text_raises(text: str) -> None:
    assert usable_language(detect_language(text)) == detect_language(text)


def test_tags_that_name_no_language_are_not_usable() -> None:
    for tag in ("", "und", "und-latn", "mul", "zxx", "qaa", "x", "e2", "english"):
        assert usable_language(tag) == ""
    for tag in ("en", "en-us", "pt-br", "gsw", "zh-hant-tw"):
        assert usable_language(tag) == tag
