"""Texts as LaTeX: whatever a sweep file says is typeset, never run."""

from typing import Final

_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "−": r"$-$",
        "–": r"--",
        "τ": r"$\tau$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
    }
)


def typeset(text: str) -> str:
    """A text on one line, every special character escaped.

    Letters beyond ASCII stay as they are: LaTeX has read UTF-8 since 2018.
    """
    return " ".join(text.split()).translate(_ESCAPES)
