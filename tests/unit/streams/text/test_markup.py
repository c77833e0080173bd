from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.text.markup import tokens

TAGS = {
    "<p class=\"a>b\" id='>' x=y>": "p",
    "<A\nhref = '>'>": "a",
    "<br/>": "br",
    '<p a= b="c">': "p",
    '<p a=b"c">': "p",
    "<h1 =>": "h1",
    "<p ==>": "p",
}
LEFT_OUT = (
    "<!-- <p> -->",
    "<!-->",
    "<!--->",
    "<!--a--!>",
    "<!DOCTYPE html>",
    "<?php x ?>",
    "</ x>",
    '<script>if (a <b && "</p>") {}</script>',
    "<STYLE>p > a {}</style >",
    "<template><p>x</template>",
)


@pytest.mark.parametrize(("markup", "tag"), TAGS.items())
def test_tags(markup: str, tag: str) -> None:
    assert list(tokens(f"a{markup}b</{tag}>")) == [
        ("text", "a"),
        ("open", tag),
        ("text", "b"),
        ("close", tag),
    ]


@pytest.mark.parametrize("markup", LEFT_OUT)
def test_what_no_reader_sees(markup: str) -> None:
    assert list(tokens(f"a{markup}b")) == [("text", "a"), ("text", "b")]


def test_text() -> None:
    assert list(tokens("1 < 2 &amp; 3 &gt 2 <3")) == [("text", "1 < 2 & 3 > 2 <3")]
    assert list(tokens("<p")) == [("open", "p")]
    assert list(tokens("")) == []


@pytest.mark.parametrize(
    "text",
    [
        "if a<b then c",
        "if a<b then c>d",
        "x<y and y<z",
        "a List<String> of it",
        "by <ann@example.com>",
        "see <https://a.example/f> for it",
        "cut <String",
    ],
)
def test_what_only_looks_like_a_tag_is_text(text: str) -> None:
    assert list(tokens(text)) == [("text", text)]
    around = list(tokens(f"<p>{text}</p>"))
    assert around == [("open", "p"), ("text", text), ("close", "p")]


@pytest.mark.parametrize("markup", ["<video controls muted>", "<o:p>", "<x-y>", "<made>a</made>"])
def test_what_html_may_hold_is_a_tag(markup: str) -> None:
    assert next(kind for kind, _ in tokens(markup)) == "open"


@given(st.text(st.sampled_from("<>/!-?=\"' abp&;"), max_size=60))
def test_nothing_is_said_that_was_not_written(text: str) -> None:
    for kind, what in tokens(text):
        assert kind in ("text", "open", "close")
        assert what


@pytest.mark.no_cover  # measuring branches takes time, and this is timed
@pytest.mark.parametrize(
    "piece",
    ["<", "<!--", "<a ", "<a =", '<a ="', "<script>", "<div><!--</div>-->", "<a b=1 ", "</", "= "],
)
def test_a_hostile_megabyte(piece: str) -> None:
    started = time.process_time()
    for _ in tokens("<p " + piece * (1_000_000 // len(piece))):
        pass
    for _ in tokens(piece * (1_000_000 // len(piece))):
        pass
    assert time.process_time() - started < 5
