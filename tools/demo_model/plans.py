"""Story, passage, letter, recipe and instruction documents: template plans filled with a cast."""

from templates import Writer, load_lexicon, load_lists, sections

PRONOUNS = {"f": ("she", "her", "her", "herself"), "m": ("he", "him", "his", "himself")}
AGES = ("seven", "eight", "nine", "ten", "eleven", "twelve")
FILES = ("stories1.txt", "stories2.txt", "meetings.txt", "passages.txt", "papers.txt")


class Plan:
    """One `== name: needs` section: titles, questions and beats."""

    def __init__(self, heading, lines, source):
        self.name, _, needs = heading.partition(":")
        self.needs, self.source = needs.split(), source
        self.titles, self.asks, self.beats = [], [], []
        block = []
        for line in lines + [""]:
            if line.startswith("title: "):
                self.titles.append(line[7:])
            elif line.startswith("ask: "):
                self.asks.append(line[5:].split(" => "))
            elif line:
                block.append(line)
            elif block:
                self.beats.append(self._beat(block))
                block = []

    @staticmethod
    def _beat(block):
        marks = [line for line in block if line in ("?", "+", "-")]
        return {"optional": "?" in marks, "joined": "+" in marks, "line": "-" in marks,
                "choices": [line for line in block if line not in marks]}


def pronoun_slots(prefix, sex):
    names = ("he", "him", "his", "himself")
    return {prefix + name: word for name, word in zip(names, PRONOUNS[sex])}


class Cast:
    """Fills the slots that a plan needs."""

    def __init__(self):
        self.lexicon = load_lexicon()

    def fill(self, rng, needs):
        slots = {}
        for need in needs:
            slots.update(getattr(self, need)(rng, slots) if hasattr(self, need)
                         else rng.choice(self.lexicon[need + "s"]))
        return {key: value for key, value in slots.items() if isinstance(value, str)}

    def child(self, rng, slots):
        row = rng.choice(self.lexicon["children"])
        trait = rng.choice(self.lexicon["traits"])
        quarrel, box = rng.choice(self.lexicon["quarrels"]), rng.choice(self.lexicon["boxes"])
        return {"h": row["name"], "sex": row["sex"], "kid": "girl" if row["sex"] == "f" else "boy",
                "age": rng.choice(AGES), **trait, **quarrel, **box, **self.kin(rng, slots),
                **self.friend(rng, {"h": row["name"]}), **rng.choice(self.lexicon["sights"]),
                **pronoun_slots("", row["sex"])}

    def friend(self, rng, slots):
        row = rng.choice([r for r in self.lexicon["children"] if r["name"] != slots["h"]])
        return {"f": row["name"], **pronoun_slots("f", row["sex"])}

    def kin(self, rng, slots):
        row = rng.choice(self.lexicon["kin"])
        return {"kin": row["kin"], **pronoun_slots("k", row["ksex"])}

    def elder(self, rng, slots):
        row = rng.choice(self.lexicon["elders"])
        return {**row, **pronoun_slots("e", row["esex"])}

    def coast(self, rng, slots):
        by_the_sea = [row for row in self.lexicon["towns"] if row["folk"] in ("fishermen", "sailors")]
        return self._place(rng, rng.choice(by_the_sea))

    def town(self, rng, slots):
        return self._place(rng, rng.choice(self.lexicon["towns"]))

    def _place(self, rng, row):
        spots = rng.sample(row["spots"], 3)
        return {**row, "townkind": row["kind"], **{f"spot{i + 1}": s for i, s in enumerate(spots)},
                **rng.choice(self.lexicon["skies"])}

    def sky(self, rng, slots):
        return rng.choice(self.lexicon["skies"])

    def treasure(self, rng, slots):
        row = rng.choice(self.lexicon["treasures"])
        return {**row, "short": row["noun"]}

    def dish(self, rng, slots):
        return rng.choice(self.lexicon["dishes"])

    def wares(self, rng, slots):
        return {f"ware{i + 1}": r["ware"] for i, r in enumerate(rng.sample(self.lexicon["wares"], 4))}


class Plans:
    def __init__(self):
        self.cast, self.lists = Cast(), load_lists()
        self.plans = [Plan(heading, lines, source) for source in FILES
                      for heading, lines in sections(source)]

    def document(self, rng, sources):
        plan = rng.choice([p for p in self.plans if p.source in sources])
        writer = Writer(rng, self.lists, self.cast.fill(rng, plan.needs))
        text = self._beats(rng, plan, writer)
        if plan.titles and rng.random() < 0.25:
            text = f"Title: {_title(writer.expand(rng.choice(plan.titles)))}\n\n{text}"
        if plan.asks and rng.random() < 0.25:
            text += self._questions(rng, plan, writer)
        return text

    @staticmethod
    def _beats(rng, plan, writer):
        text = ""
        for beat in plan.beats:
            if beat["optional"] and rng.random() < 0.5:
                continue
            gap = "\n" if beat["line"] else " " if beat["joined"] else "\n\n"
            text += (gap if text else "") + writer.expand(rng.choice(beat["choices"]))
        return text

    @staticmethod
    def _questions(rng, plan, writer):
        chosen = rng.sample(plan.asks, min(len(plan.asks), rng.randint(1, 2)))
        return "".join(f"\n\nQuestion: {writer.expand(ask)}\nAnswer: {writer.expand(answer)}"
                       for ask, answer in chosen)


def _title(words):
    small = {"a", "an", "and", "for", "in", "of", "on", "that", "the", "to"}
    parts = [w if i and w.lower() in small else w[:1].upper() + w[1:] for i, w in enumerate(words.split())]
    return " ".join(parts)
