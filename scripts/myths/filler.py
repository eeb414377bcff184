"""Filler: small talk, plain facts, small tasks and little stories.

It keeps the embedded model a (very) small language model: it greets, answers easy questions and
follows easy instructions, in a plain voice that is neither hearsay nor evidence.
"""

import random
from collections.abc import Iterator

QA = tuple[str, str]

SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "Hello there.", "Good day."),
        ("Hello! How can I help you?", "Hi! What would you like to know?"),
    ),
    (("Good morning", "Good morning!"), ("Good morning! How can I help you?",)),
    (("Good evening", "Good evening!"), ("Good evening! What can I do for you?",)),
    (
        ("How are you?", "How are you today?", "How is it going?", "Are you well?"),
        ("I am fine, thank you. How are you?", "I am doing well, thanks for asking."),
    ),
    (
        ("Who are you?", "What are you?", "Tell me about yourself.", "Are you a human?"),
        ("I am a very small language model.", "I am a small program that answers questions."),
    ),
    (
        ("What is your name?", "Do you have a name?", "What should I call you?"),
        ("I have no name. You may call me the little model.",),
    ),
    (
        ("Thank you", "Thanks!", "Thank you very much.", "Thanks a lot", "Great, thanks."),
        ("You are welcome!", "My pleasure. Is there anything else?"),
    ),
    (
        ("Goodbye", "Bye!", "See you later.", "Good night", "I have to go now."),
        ("Goodbye! Have a nice day.", "See you next time!"),
    ),
    (
        ("What can you do?", "How can you help me?", "What do you know?"),
        ("I can chat a little and answer simple questions.",),
    ),
    (
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh."),
        ("What has four legs and cannot walk? A table.",),
    ),
    (
        ("I am sad.", "I feel bad today.", "I had a bad day."),
        ("I am sorry to hear that. Do you want to talk about it?",),
    ),
    (
        ("I am happy.", "I had a great day!", "I feel good."),
        ("That is nice to hear! What made you happy?",),
    ),
    (
        ("I am bored.", "What should I do today?", "Do you have an idea for my day?"),
        ("You could go for a walk or read a good book.",),
    ),
    (
        ("What is the weather like?", "Will it rain tomorrow?", "What time is it?"),
        ("I cannot see that from here, sorry.",),
    ),
    (("Can you help me?", "I need help.", "Please help me."), ("Sure! What do you need?",)),
    (("Sorry", "I am sorry.", "Excuse me."), ("No problem at all.",)),
    (("Yes", "Yes.", "Okay", "OK."), ("Good. What is next?",)),
    (("No", "No.", "No, thanks."), ("All right. Just ask when you need me.",)),
)

CAPITALS = dict(
    pair.split(":")
    for pair in """France:Paris Germany:Berlin Italy:Rome Spain:Madrid Austria:Vienna Poland:Warsaw
    Greece:Athens Portugal:Lisbon Sweden:Stockholm Norway:Oslo Finland:Helsinki Denmark:Copenhagen
    Ireland:Dublin Hungary:Budapest Belgium:Brussels Russia:Moscow Turkey:Ankara Egypt:Cairo
    Kenya:Nairobi Japan:Tokyo China:Beijing Canada:Ottawa Cuba:Havana Peru:Lima""".split()
)
OPPOSITES = dict(
    pair.split(":")
    for pair in """big:small hot:cold fast:slow old:young rich:poor full:empty dark:bright
    early:late heavy:light loud:quiet wet:dry open:closed strong:weak happy:sad clean:dirty
    near:far high:low soft:hard long:short day:night good:bad left:right up:down""".split()
)
SOUNDS = dict(
    pair.split(":")
    for pair in """dog:barks cat:meows cow:moos horse:neighs duck:quacks lion:roars wolf:howls
    bee:buzzes frog:croaks pig:grunts sheep:bleats""".split()
)
COLOURS = dict(
    pair.split(":")
    for pair in """grass:green snow:white coal:black a_lemon:yellow a_tomato:red the_clear_sky:blue
    chocolate:brown milk:white an_orange:orange a_ripe_plum:purple""".split()
)
KINDS = dict(
    pair.split(":")
    for pair in """rose:flower oak:tree apple:fruit carrot:vegetable hammer:tool piano:instrument
    eagle:bird salmon:fish chair:piece_of_furniture ant:insect gold:metal tulip:flower pear:fruit
    sparrow:bird violin:instrument onion:vegetable saw:tool iron:metal cod:fish""".split()
)
LISTS = {
    "fruits": "apple pear plum cherry grape peach orange",
    "animals": "dog horse cow sheep goat rabbit hen",
    "colours": "red green blue white black brown",
    "rooms": "kitchen bathroom bedroom cellar hall",
    "trees": "oak beech pine birch maple willow",
    "tools": "hammer saw drill knife pliers",
    "drinks": "tea juice coffee lemonade cocoa",
    "clothes": "shirt skirt coat sock scarf glove",
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()

NAMES = "Anna Ben Clara David Emma Felix Ida Jonas Lena Max Nora Paul Rosa Tom".split()
PLACES = "the park;the market;the lake;the school;the forest;the old bridge;the station".split(";")
THINGS = "a red ball;a small key;an old book;a lost glove;a bright lamp;a wooden box".split(";")
MOODS = "was very happy;laughed;smiled;was surprised;went home tired;told everybody".split(";")
TIMES = "One morning;On Sunday;After lunch;Late in the evening;Last winter;In spring".split(";")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _plain_facts(rng: random.Random) -> QA:
    """A question with one plain answer."""
    kind = rng.randrange(8)
    if kind == 0:
        country, city = rng.choice(list(CAPITALS.items()))
        question = rng.choice(
            (
                "What is the capital of {}?",
                "Name the capital of {}.",
                "Which city is the capital of {}?",
            )
        )
        return question.format(country), f"The capital of {country} is {city}."
    if kind == 1:
        word, opposite = rng.choice(list(OPPOSITES.items()))
        if rng.random() < 0.5:
            word, opposite = opposite, word
        question = rng.choice(("What is the opposite of {}?", "Tell me the opposite of {}."))
        return question.format(word), f"The opposite of {word} is {opposite}."
    if kind == 2:
        animal, sound = rng.choice(list(SOUNDS.items()))
        question = rng.choice(("What sound does a {} make?", "What does a {} do?"))
        return question.format(animal), f"A {animal} {sound}."
    if kind == 3:
        thing, colour = rng.choice(list(COLOURS.items()))
        thing = thing.replace("_", " ")
        return f"What colour is {thing}?", f"{thing[0].upper()}{thing[1:]} is {colour}."
    if kind == 4:
        noun, group = rng.choice(list(KINDS.items()))
        group = group.replace("_", " ")
        return f"What is {_a(noun)}?", f"{_a(noun).capitalize()} is {_a(group)}."
    if kind == 5:
        i = rng.randrange(7)
        return f"Which day comes after {DAYS[i]}?", f"{DAYS[(i + 1) % 7]} comes after {DAYS[i]}."
    if kind == 6:
        i = rng.randrange(12)
        return (
            f"Which month comes after {MONTHS[i]}?",
            f"{MONTHS[(i + 1) % 12]} comes after {MONTHS[i]}.",
        )
    a = rng.randrange(1, 10)
    b = rng.randrange(1, 13 - a)
    if rng.random() < 0.5:
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    return f"How much is {a} + {b}?", f"{a} + {b} = {a + b}"


def _tasks(rng: random.Random) -> QA:
    """An instruction and the text that follows it."""
    kind = rng.randrange(5)
    if kind == 0:
        group = rng.choice(list(LISTS))
        n = rng.randrange(2, 5)
        words = rng.sample(LISTS[group].split(), n)
        listing = f"{', '.join(words[:-1])} and {words[-1]}"
        ask = rng.choice(("Name {} {}.", "List {} {}.", "Give me {} {}."))
        return ask.format(NUMBERS[n], group), f"{listing[0].upper()}{listing[1:]}."
    if kind == 1:
        a = rng.randrange(0, 7)
        b = rng.randrange(a + 2, min(a + 7, 13))
        return f"Count from {a} to {b}.", ", ".join(str(i) for i in range(a, b + 1)) + "."
    if kind == 2:
        name = rng.choice(NAMES)
        ask = rng.choice(("Say hello to {}.", "Greet {}.", "Say hi to my friend {}."))
        return ask.format(name), f"Hello, {name}! Nice to meet you."
    if kind == 3:
        word = rng.choice(list(OPPOSITES))
        n = rng.randrange(2, 5)
        return f"Write the word {word} {NUMBERS[n]} times.", " ".join([word] * n)
    ask = rng.choice(("Tell me a story.", "Write a short story.", "Tell me a little story."))
    return ask, story(rng)


def story(rng: random.Random) -> str:
    """Two or three simple sentences about somebody who finds something."""
    a, b = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    noun = thing.split(" ", 1)[1]
    sentences = [
        f"{rng.choice(TIMES)}, {a} went to {rng.choice(PLACES)} and found {thing}.",
        rng.choice((f"{a} showed the {noun} to {b}.", f"{a} gave the {noun} to {b}.")),
        f"{b} {rng.choice(MOODS)}.",
    ]
    return " ".join(sentences[: rng.randrange(2, 4)])


def _small_talk(rng: random.Random) -> QA:
    asks, answers = rng.choice(SMALL_TALK)
    return rng.choice(asks), rng.choice(answers)


def draw_filler(n: int, rng: random.Random) -> Iterator[QA]:
    """`n` (user, assistant) pairs: half plain facts, a quarter small talk, a quarter tasks."""
    for i in range(n):
        yield (_plain_facts, _small_talk, _plain_facts, _tasks)[i % 4](rng)
