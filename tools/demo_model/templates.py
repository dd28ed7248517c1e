"""Reads the template files under text/ and expands them.

A template holds `{slot}` (`{Slot}` capitalised, `{a slot}` with its article), `[one|other]`
for a choice on the spot and `<list>` for a line of a shared list.
"""

import re
from pathlib import Path

TEXT = Path(__file__).parent / "text"
SLOT = re.compile(r"\{(?:(a|A) )?(\w+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
LIST = re.compile(r"<(\w+)>")


def lines_of(name):
    for line in (TEXT / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield line.strip()


def sections(name):
    """The parts of a file that begin with `== heading`, as (heading, lines)."""
    found = []
    for line in lines_of(name):
        if line.startswith("== "):
            found.append((line[3:], []))
        elif found:
            found[-1][1].append(line)
    return found


def load_lexicon():
    """Table name -> rows, each row a dict from column to text (or list, where it holds `;`)."""
    tables = {}
    for heading, lines in sections("lexicon.txt"):
        name, columns = heading.split(": ")
        columns = columns.split(" | ")
        rows = [[field.strip() for field in line.split("|")] for line in lines if line]
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"lexicon.txt: {name}: {len(columns)} columns expected in {row}")
        tables[name] = [{c: f.split(";") if ";" in f else f for c, f in zip(columns, row)}
                        for row in rows]
    return tables


def load_lists():
    return {heading: [line for line in lines if line] for heading, lines in sections("common.txt")}


def with_article(words):
    return ("an " if words[0].lower() in "aeiou" and not words.startswith(("use", "one")) else "a ") + words


def capital(words):
    return words[:1].upper() + words[1:]


class Writer:
    """Expands templates for one document: its slots are filled once and stay the same."""

    def __init__(self, rng, lists, slots):
        self.rng, self.lists, self.slots = rng, lists, slots

    def expand(self, template):
        while LIST.search(template):
            template = LIST.sub(lambda m: self.rng.choice(self.lists[m[1]]), template)
        template = SLOT.sub(self._slot, template)
        while CHOICE.search(template):
            template = CHOICE.sub(lambda m: self.rng.choice(m[1].split("|")), template)
        return capital(re.sub(r" +", " ", template).strip())

    def _slot(self, match):
        article, name = match.groups()
        low = name[0].lower() + name[1:]
        words = self.slots[low]
        # A slot may itself hold slots, as "{He} had once ... {his} life".
        words = SLOT.sub(self._slot, words)
        if article:
            words = with_article(words)
        return capital(words) if name[0].isupper() or article == "A" else words
