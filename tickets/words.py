"""Names of categories, and how each is written in a prompt: an article where English has one."""

from __future__ import annotations

import re
import unicodedata

EMBEDDING = "embedding:"
# Of a category in characters; several chunks of CLIP's are shorter.
LONGEST_NAME = 1000
QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d\u300e\u300f"
# Words that stand where an article would, and articles of languages that have some.
DETERMINERS = frozenset(
    [
        "a",
        "an",
        "the",
        "some",
        "all",
        "both",
        "every",
        "each",
        "another",
        "many",
        "several",
        "few",
        "this",
        "that",
        "these",
        "those",
        "my",
        "your",
        "his",
        "her",
        "its",
        "our",
        "their",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "un",
        "una",
        "une",
        "unos",
        "unas",
        "el",
        "la",
        "los",
        "las",
        "le",
        "les",
        "il",
        "ein",
        "eine",
        "der",
        "das",
        "um",
        "uma",
    ]
)
# What is not counted has no article, either.
UNCOUNTED = frozenset(
    [
        "water",
        "snow",
        "ice",
        "rain",
        "fog",
        "mist",
        "smoke",
        "grass",
        "sand",
        "mud",
        "dust",
        "dirt",
        "lava",
        "hay",
        "straw",
        "moss",
        "seaweed",
        "lightning",
        "thunder",
        "sunlight",
        "moonlight",
        "daylight",
        "darkness",
        "bread",
        "rice",
        "pasta",
        "butter",
        "milk",
        "meat",
        "beef",
        "pork",
        "honey",
        "sugar",
        "salt",
        "flour",
        "broccoli",
        "spinach",
        "furniture",
        "jewelry",
        "jewellery",
        "luggage",
        "clothing",
        "fur",
        "leather",
        "gold",
        "steel",
        "wood",
        "music",
        "weather",
        "scenery",
        "vegetation",
        "foliage",
        "graffiti",
        "equipment",
        "machinery",
        "traffic",
        "food",
        "money",
        "chess",
        "information",
    ]
)
PLURAL = frozenset(
    [
        "people",
        "men",
        "women",
        "children",
        "mice",
        "geese",
        "feet",
        "teeth",
        "cattle",
        "police",
        "skis",
        "taxis",
    ]
)
SINGULAR = frozenset(
    [
        "lens",
        "gas",
        "canvas",
        "christmas",
        "atlas",
        "texas",
        "kansas",
        "mars",
        "series",
        "species",
        "chaos",
        "cosmos",
        "rhinoceros",
        "bias",
        "omen",
        "ramen",
        "stamen",
        "abdomen",
        "regimen",
        "specimen",
        "cyclamen",
    ]
)
# Before these, what is meant has been named: "bowl of apples" is a bowl.
AFTER = re.compile(r",| (?:of|with|without|in|on|at|from|for|by|under|over|and|near|behind|made) ")
# Spelled with a vowel and said without one, and the other way round.
AS_CONSONANT = re.compile(
    r"uni(?![nmd])|unanim|us[aeu]|usb|ufo|uk[ur]|ut[aeio]|uga|ur[aio]|ubi|uv\b|u-|e[uw]|one(?:s|\b)|once\b|ouija"
)
AS_VOWEL = re.compile(r"hour|honest|hono|heir|x-?ray|suv\b|led\b|mri\b|f1\b|8|11\b|18\b")


def one_line(text: str) -> str:
    """Single spaces, also for what cannot be shown: codes that steer a terminal, halves of letters."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    seen = (" " if c == "\ufeff" or unicodedata.category(c) in kinds else c for c in text)
    return " ".join("".join(seen).split())


def category_name(text: str) -> str:
    """A category as banks list it, so that it is found however it is typed.

    Lower case but for the names of embeddings, on one line, no final period, letters of full width as
    usual. Quotes around it are kept where they make a difference: they ask for no article.
    """
    parts = re.split(rf"(?i)\b{EMBEDDING}(\S+)", one_line(text))
    for n, part in enumerate(parts):
        parts[n] = EMBEDDING + part if n % 2 else unicodedata.normalize("NFKC", part).lower()
    name = " ".join("".join(parts).split()).rstrip(".\u3002")
    bare = name.strip(QUOTES).strip()
    quoted = len(name) > 1 and name[0] in QUOTES and name[-1] in QUOTES
    return f'"{bare}"' if quoted and bare and _article(bare) else bare if quoted else name


def same_category(one: str, other: str) -> bool:
    """Whether two names mean the same: quotes and an article in front of one do not matter."""
    return _plain(one) == _plain(other)


def written(name: str) -> tuple[str, int]:
    """A category as a prompt has it, and where the category itself begins in that: ("an owl", 3).

    As it is where it is in quotes, has an article, a number or the like of its own, is a plural or not
    counted, or is not in Latin letters.
    """
    if len(name) > 2 and name[0] == name[-1] == '"':
        return name[1:-1], 0
    article = _article(name)
    return article + name, len(article)


def _plain(name: str) -> str:
    return re.sub(r"^(?:an?|the) (?=.)", "", category_name(name).strip('"'))


def _article(name: str) -> str:
    """What has to stand before a category: "a ", "an " or nothing."""
    start = next((i for i, letter in enumerate(name) if letter.isalnum()), None)
    if start is None:
        return ""
    words = name[start:]
    if words.startswith(EMBEDDING):
        return "a "
    first = re.split(r"[\s:)]", words, maxsplit=1)[0]
    letter = unicodedata.normalize("NFKD", words[0])[0]
    if first in DETERMINERS or first.isdecimal() or not letter.isascii():
        return ""
    head = re.split(r"[\s(:]+", AFTER.split(words)[0].strip(" ):.0123456789"))[-1]
    if head in UNCOUNTED or _is_plural(head):
        return ""
    vowel = letter in "aeiou" and not AS_CONSONANT.match(words) or AS_VOWEL.match(words)
    return "an " if vowel else "a "


def _is_plural(word: str) -> bool:
    if word in PLURAL or word in SINGULAR:
        return word in PLURAL
    return len(word) > 3 and re.search(r"[^\Wsui]s$|men$|children$|people$", word) is not None
