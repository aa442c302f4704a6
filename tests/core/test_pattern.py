"""Patterns of audiences: what Python's regular expressions mean, in a time that no text makes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.pattern import LONGEST_TEXT, Pattern
from serving_app.core.pattern_tree import MOST_POSITIONS


@pytest.mark.parametrize(
    ("source", "text", "fits"),
    [
        ("curl/.*", "curl/8.1", True),
        ("curl", "curl/8.1", False),
        ("^curl/8$", "curl/8", True),
        ("^a|b$", "b", True),
        ("(?i)chrome.*", "CHROME/1", True),
        ("(?i)[^a]", "A", False),
        ("(?i)s", "\u017f", True),
        ("user-\\d{1,3}", "user-42", True),
        ("user-\\d{1,3}", "user-4242", False),
        ("[\\w.-]+@example\\.com", "a.b-c@example.com", True),
        ("\\W\\S\\D", " ab", True),
        ("[]a^-]{4}", "]a^-", True),
        ("[a-]", "-", True),
        ("a{,2}b{2,}c{x}", "aabbbc{x}", True),
        ("\\x41\\u0042\\n", "AB\n", True),
        (".", "\n", False),
        ("", "", True),
        ("", "a", False),
        ("(|a)*b", "aab", True),
        ("(a?){3}", "aa", True),
        ("(){5}x", "x", True),
        ("名+", "名名", True),
    ],
)
def test_what_fits(source: str, text: str, fits: bool) -> None:
    """The whole of a text, by the usual signs."""
    assert Pattern(source).fits(text) is fits


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("(", "a group has no end"),
        (")", r"no \( for the \) at position 0"),
        ("[a", "ends too early"),
        ("\\", "ends too early"),
        ("*", "nothing to repeat at position 0"),
        ("a**", "cannot be repeated, as at position 2"),
        ("a*+", "cannot be repeated"),
        ("a{3,2}", "the smaller number first"),
        ("a{1000}", "from 0 to 200 times"),
        ("((a{9}){9}){9}", f"more than {MOST_POSITIONS} characters"),
        ("(a)\\1", r"\\1 is not known"),
        ("\\bx", r"\\b is not known"),
        ("(?=a)a", "question mark"),
        ("a(?i)", "question mark"),
        ("a$b", "neither at its beginning nor at its end"),
        ("[z-a]", "there is no character"),
        ("\\xg1", "is no character"),
        ("(" * 100 + ")" * 100, "more than 40 deep"),
        ("a" * 1001, "longer than 1000"),
    ],
)
def test_what_is_refused(source: str, complaint: str) -> None:
    """What is wrong, what could not be matched in bounded time, and what would take too much; it says which."""
    with pytest.raises(ValueError, match=complaint):
        Pattern(source)


@pytest.mark.parametrize("source", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*b", "(.*a){12}b", "((a?){20}){9}b"])
def test_no_text_takes_long(source: str) -> None:
    """Patterns at which others work for years when a text nearly fits: each step is one of a bounded number."""
    pattern = Pattern(source)
    assert pattern.fits("a" * 1000 + "b") is (source != "((a?){20}){9}b")
    assert not pattern.fits("a" * LONGEST_TEXT)
    assert not pattern.fits("a" * 10**7)
    assert pattern.fits("a" * 100 + "b")


def test_what_is_remembered_is_bounded() -> None:
    """However many different characters come."""
    pattern = Pattern("(.a|.b|.c)*")
    for start in range(0, 20_000, 1000):
        assert pattern.fits("".join(f"{chr(0x3000 + start + each)}a" for each in range(1000)))
    assert len(pattern._taking) <= 512
    assert len(pattern._next) <= 512


_LETTERS = "ab-\n"
_SOURCES = st.recursive(
    st.sampled_from([*"ab.-", "[ab]", "[^a]", "\\w", "\\n", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{,1}", "*?"])).map(
            lambda each: f"(?:{each[0]}){each[1]}"
        ),
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
    ),
    max_leaves=6,
)


@given(_SOURCES, st.lists(st.text(_LETTERS, max_size=6), max_size=8))
def test_as_python_does_it(source: str, texts: list[str]) -> None:
    """The standard library finds that the same texts fit."""
    pattern, other = Pattern(source), re.compile(source)
    assert [pattern.fits(text) for text in texts] == [other.fullmatch(text) is not None for text in texts]
