"""A report as plain data, so that the page and the Markdown summary say the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Table:
    """A table of text.

    Attributes
    ----------
    caption : str
    header : list of str
        The first column holds names, the others values.
    rows : list of list of str
    notes : list of str
        Below the table.
    rule_before : set of int
        Rows that start a new block (networks, baselines).
    """

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    rule_before: set[int] = field(default_factory=set)


@dataclass
class Section:
    """A heading with sentences, tables and figures (names of :data:`normct.evaluate.captions.FIGURES`)."""

    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    alarm: bool = False


def _plain(text: str) -> str:
    """Escape what Markdown and the HTML inside it would take as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text).replace("\n", " ")


def markdown(title: str, sections: list[Section], captions: dict[str, str]) -> str:
    """Return the report as Markdown; figures are linked beside it."""
    lines = [f"# {_plain(title)}", ""]
    for section in sections:
        lines += [f"## {_plain(section.title)}", ""]
        for sentence in section.sentences:
            lines += [f"**{_plain(sentence)}**" if section.alarm else _plain(sentence), ""]
        for table in section.tables:
            lines += [f"{_plain(table.caption)}", ""]
            lines.append("| " + " | ".join(map(_plain, table.header)) + " |")
            lines.append("|---" * len(table.header) + "|")
            lines += ["| " + " | ".join(map(_plain, row)) + " |" for row in table.rows]
            lines += ["", *(f"{_plain(note)}\n" for note in table.notes)]
        for name in section.figures:
            lines += [f"![{_plain(captions[name])}]({name}.png)", "", _plain(captions[name]), ""]
    return "\n".join(lines).rstrip() + "\n"
