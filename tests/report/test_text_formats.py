"""Markdown and LaTeX say what a sweep file says, whatever characters are in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gapctl.report.latex import escape_latex
from gapctl.report.markdown import escape_markdown, format_code, format_table

READER = MarkdownIt("commonmark").enable("table").enable("strikethrough")
MARKED = st.text(st.sampled_from("ab1 \\`*_{}[]()<>|#~&$!-+.=\n:;/\"'@"), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip())
)


def read(markdown: str) -> list[tuple[str, str]]:
    """The pieces of text that a reader of Markdown finds, each with its kind."""
    inline = [token for token in READER.parse(markdown) if token.type == "inline"]
    return [(child.type, child.content) for token in inline for child in token.children or ()]


def once_spaced(text: str) -> str:
    return " ".join(text.split())


@given(MARKED)
def test_a_text_reads_in_markdown_as_it_was_written(text: str) -> None:
    found = read(f"Said: {escape_markdown(text)}")

    assert {kind for kind, _ in found} <= {"text", "text_special"}
    assert "".join(content for _, content in found) == f"Said: {once_spaced(text)}"


@given(MARKED)
def test_a_text_at_the_beginning_of_a_line_makes_no_heading_or_list(text: str) -> None:
    kinds = {token.type for token in READER.parse(escape_markdown(text))}

    assert kinds == {"paragraph_open", "inline", "paragraph_close"}


@given(MARKED, MARKED)
def test_a_table_keeps_its_cells(one: str, other: str) -> None:
    rows = READER.parse(format_table(["a", "b"], [[escape_markdown(one), escape_markdown(other)]], numbers_from=1))
    cells = [token for token in rows if token.type == "inline"][2:]

    assert [once_spaced("".join(child.content for child in cell.children or ())) for cell in cells] == [
        once_spaced(one),
        once_spaced(other),
    ]


@given(MARKED.filter(lambda text: "|" not in text))
def test_code_keeps_its_backticks(text: str) -> None:
    ((kind, content),) = read(f"{format_code(text)}")

    assert (kind, content.strip()) == ("code_inline", once_spaced(text))


@given(MARKED)
def test_no_character_of_a_text_is_a_command_in_latex(text: str) -> None:
    ours = re.compile(
        r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\[{}&%$#_]"
    )

    assert not set(ours.sub("", escape_latex(text))) & set("\\{}&%$#_~^<>|")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5 % & more_of $it", r"5 \% \& more\_of \$it"), ("Kendall's τ", r"Kendall's $\tau$"), ("−0.5", "$-$0.5")],
)
def test_known_texts_in_latex(text: str, expected: str) -> None:
    assert escape_latex(text) == expected
