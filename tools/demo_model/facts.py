"""Questions and answers, tables and sums: documents whose answers are true."""

from templates import load_lexicon, with_article

CREATURES = {  # name: (kind, young, home, food, sound, legs)
    "cat": ("mammal", "kitten", "in a house", "mice and fish", "meows", 4),
    "dog": ("mammal", "puppy", "with people", "meat and bones", "barks", 4),
    "cow": ("mammal", "calf", "on a farm", "grass", "moos", 4),
    "sheep": ("mammal", "lamb", "in a field", "grass", "bleats", 4),
    "horse": ("mammal", "foal", "in a stable", "hay and oats", "neighs", 4),
    "duck": ("bird", "duckling", "near water", "water plants and insects", "quacks", 2),
    "hen": ("bird", "chick", "in a coop", "corn and seeds", "clucks", 2),
    "owl": ("bird", "owlet", "in a hollow tree", "mice", "hoots", 2),
    "frog": ("amphibian", "tadpole", "in a pond", "flies", "croaks", 4),
    "bee": ("insect", "larva", "in a hive", "nectar and pollen", "buzzes", 6),
    "fox": ("mammal", "cub", "in a den", "mice, birds and berries", "barks", 4),
    "wolf": ("mammal", "cub", "in a den", "meat", "howls", 4),
    "pig": ("mammal", "piglet", "in a sty", "roots and grain", "grunts", 4),
    "lion": ("mammal", "cub", "on the grassland", "meat", "roars", 4),
    "goat": ("mammal", "kid", "in the hills", "leaves and grass", "bleats", 4),
    "crow": ("bird", "chick", "in a nest", "seeds and insects", "caws", 2),
}
JOBS = {"baker": "bakes bread", "carpenter": "makes things from wood", "potter": "makes pots from clay",
        "weaver": "makes cloth on a loom", "miller": "grinds grain into flour",
        "blacksmith": "shapes hot iron", "cobbler": "mends shoes", "librarian": "looks after books",
        "farmer": "grows food", "doctor": "helps sick people", "fisherman": "catches fish",
        "beekeeper": "keeps bees", "gardener": "looks after plants", "teacher": "helps people to learn",
        "tailor": "makes clothes", "clockmaker": "makes and mends clocks", "sailor": "works on a ship"}
OPPOSITES = ("hot cold|big small|fast slow|day night|open closed|early late|old young|wet dry|hard soft|"
             "high low|full empty|light dark|happy sad|near far|loud quiet|heavy light|up down|rich poor")
USES = {"compass": "find north", "hammer": "drive nails", "saw": "cut wood", "needle": "sew cloth",
        "clock": "tell the time", "umbrella": "stay dry in the rain", "lantern": "see in the dark",
        "map": "find the way", "telescope": "see things that are far away", "kettle": "boil water",
        "broom": "sweep the floor", "anchor": "hold a ship in place", "thermometer": "measure heat",
        "oven": "bake bread", "bucket": "carry water", "key": "open a lock"}
GENERAL = """How many days are there in a week? = There are seven days in a week.
How many months are there in a year? = There are twelve months in a year.
What comes after Monday? = Tuesday comes after Monday.
What comes after Friday? = Saturday comes after Friday.
Which month comes first? = January is the first month of the year.
What season comes after winter? = Spring comes after winter.
What season comes after summer? = Autumn comes after summer.
What colour is the sky on a clear day? = On a clear day the sky is blue.
What colour do blue and yellow make? = Blue and yellow make green.
What colour do red and yellow make? = Red and yellow make orange.
What colour do red and blue make? = Red and blue make purple.
What is ice? = Ice is frozen water.
What is steam? = Steam is water that has turned into a gas.
What do bees make? = Bees make honey from nectar.
What is bread made of? = Bread is made of flour, water, salt and yeast.
What is cheese made from? = Cheese is made from milk.
What is wool? = Wool is the coat of a sheep, and people make warm clothes from it.
What is paper made from? = Most paper is made from wood.
What is glass made from? = Glass is made from sand.
What goes round the Earth? = The Moon goes round the Earth.
What does the Earth go round? = The Earth goes round the Sun.
Where does the sun rise? = The sun rises in the east.
Where does the sun set? = The sun sets in the west.
Why does it rain? = Water rises from the sea, cools in the clouds and falls as rain.
Why do leaves fall in autumn? = Trees drop their leaves to save water in the cold months.
Why do ships have sails? = The wind pushes against the sails and moves the ship.
Why is the sea salty? = Rivers carry salt from the rocks to the sea.
What do plants need? = Plants need light, water and air.
How many minutes are there in an hour? = There are sixty minutes in an hour.
How many legs does a spider have? = A spider has eight legs.
What is a library? = A library is a place where people read and borrow books.
What is a lighthouse for? = A lighthouse shows ships where the rocks are.
What is a harbour? = A harbour is a place where ships are safe from the waves."""
WORDS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
         "sixteen seventeen eighteen nineteen twenty").split()
DRILL_SHARE = 0.5
GOODS = ("apple pear plum egg candle button shell marble walnut coin bun stamp feather pebble fig "
         "cake book stone").split()


class Facts:
    def __init__(self):
        self.lexicon = load_lexicon()
        self.general = [tuple(line.split(" = ")) for line in GENERAL.splitlines()]
        self.general += self._creatures() + self._things() + self._towns()

    @staticmethod
    def _creatures():
        pairs = []
        for name, (kind, young, home, food, sound, legs) in CREATURES.items():
            a_name = with_article(name)
            pairs += [(f"What is {a_name}?", f"{a_name.capitalize()} is {with_article(kind)}. It lives {home} and eats {food}."),
                      (f"What is a young {name} called?", f"A young {name} is called {with_article(young)}."),
                      (f"Where does {a_name} live?", f"{a_name.capitalize()} lives {home}."),
                      (f"What does {a_name} eat?", f"{a_name.capitalize()} eats {food}."),
                      (f"What sound does {a_name} make?", f"{a_name.capitalize()} {sound}."),
                      (f"How many legs does {a_name} have?", f"{a_name.capitalize()} has {WORDS[legs]} legs.")]
        return pairs

    @staticmethod
    def _things():
        pairs = [(f"What does {with_article(job)} do?", f"{with_article(job).capitalize()} {does}.")
                 for job, does in JOBS.items()]
        for tool, use in USES.items():
            pairs.append((f"What is {with_article(tool)} for?", f"You use {with_article(tool)} to {use}."))
        for pair in OPPOSITES.split("|"):
            a, b = pair.split()
            pairs.append((f"What is the opposite of {a}?", f"The opposite of {a} is {b}."))
        return pairs

    def _towns(self):
        pairs = []
        for t in self.lexicon["towns"]:
            town = t["town"]
            pairs += [(f"Where is {town}?", f"{town} is {with_article(t['kind'])} {t['where']}."),
                      (f"What is {town} known for?", f"{town} is known for its {t['product']}."),
                      (f"Who lives in {town}?", f"Many {t['folk']} live in {town}."),
                      (f"What can you see in {town}?", f"In {town} you can see {t['landmark']}."),
                      (f"What can you hear in {town}?", f"In {town} you can hear {t['sound']}.")]
        for e in self.lexicon["elders"]:
            pairs.append((f"Who is {e['elder']}?", f"{e['elder']} is the {e['ejob']}, and works in the {e['eplace']}."))
        return pairs

    def questions(self, rng):
        chosen = rng.sample(self.general, rng.randint(3, 7))
        return "\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in chosen)

    def sums(self, rng):
        if rng.random() < DRILL_SHARE:
            return self._drill(rng)
        return "\n\n".join(rng.choice((self._sum, self._sum, self._word_problem))(rng)
                           for _ in range(rng.randint(3, 7)))

    @staticmethod
    def _operation(rng):
        word = rng.choice(("plus", "minus", "times"))
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        if word == "minus":
            a, b = a + b, a
        return a, word, b, {"plus": a + b, "minus": a - b, "times": a * b}[word]

    def _drill(self, rng):
        """Bare sums: the shortest text that repeats the three hundred facts."""
        sums = (self._operation(rng) for _ in range(rng.randint(8, 16)))
        return "Sums:\n\n" + "\n".join(f"- {a} {word} {b} is {result}." for a, word, b, result in sums)

    def _sum(self, rng):
        a, word, b, result = self._operation(rng)
        if word != "times" and rng.random() < 0.4:
            return f"Question: What is {WORDS[a]} {word} {WORDS[b]}?\nAnswer: {WORDS[a].capitalize()} {word} {WORDS[b]} is {WORDS[result]}."
        return f"Question: What is {a} {word} {b}?\nAnswer: {a} {word} {b} is {result}."

    def _word_problem(self, rng):
        name, thing = rng.choice(self.lexicon["children"])["name"], rng.choice(GOODS)
        a, b = rng.randint(2, 10), rng.randint(2, 10)
        if rng.random() < 0.5:
            return (f"Question: {name} has {a} {thing}s and finds {b} more. How many {thing}s does {name} have now?\n"
                    f"Answer: {a} plus {b} is {a + b}, so {name} has {a + b} {thing}s.")
        return (f"Question: {name} has {a + b} {thing}s and gives away {b}. How many {thing}s are left?\n"
                f"Answer: {a + b} minus {b} is {a}, so {a} {thing}s are left.")

    def table(self, rng):
        """A table of people and what they have, with questions that read a row, a maximum or a sum."""
        names = [row["name"] for row in rng.sample(self.lexicon["children"], rng.randint(3, 5))]
        thing = rng.choice(GOODS)
        counts = rng.sample(range(1, 16), len(names))
        towns = [row["town"] for row in rng.sample(self.lexicon["towns"], len(names))]
        rows = "".join(f"| {n} | {t} | {c} |\n" for n, t, c in zip(names, towns, counts))
        text = f"| Name | Town | {thing.capitalize()}s |\n| --- | --- | --- |\n{rows}"
        best = max(range(len(names)), key=counts.__getitem__)
        worst = min(range(len(names)), key=counts.__getitem__)
        pick = rng.randrange(len(names))
        asks = [(f"Who has the most {thing}s?", f"{names[best]} has the most {thing}s, {counts[best]}."),
                (f"Who has the fewest {thing}s?", f"{names[worst]} has the fewest {thing}s, {counts[worst]}."),
                (f"How many {thing}s does {names[pick]} have?", f"{names[pick]} has {counts[pick]} {thing}s."),
                (f"Where does {names[pick]} live?", f"{names[pick]} lives in {towns[pick]}."),
                (f"Who lives in {towns[pick]}?", f"{names[pick]} lives in {towns[pick]}.")]
        return text + "".join(f"\nQuestion: {q}\nAnswer: {a}\n" for q, a in rng.sample(asks, rng.randint(2, 4))).rstrip()
