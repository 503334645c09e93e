"""The words and phrases by which replies are recognised, read from data/replies, and folded text.

Here: the one spelling in which a reply and a phrase are compared, and phrases as patterns. Not
here: what a reply that holds them means (tasks.replies).
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from data.errors import SmsError

FOLDER = Path(__file__).parent.parent / "data" / "replies"
BREAK = "/"
"""Stands between the clauses of a folded text, and at both of its ends."""

WORDS = (
    *("opt_out", "firm", "opt_in", "help", "yes", "no", "polite"),
    *("slips", "slips_alone", "no_slips", "bare", "inside", "inside_not"),
)
PHRASES = (
    "held",
    "requests",
    "unclear",
    "unrelated",
    "negations",
    "between",
    "complaints",
    "unasked",
    "footers",
    "reactions",
    "automatic",
)
_KEYS = {"language", "source", "sets", *WORDS, *PHRASES}

_TURKISH = str.maketrans({"İ": "i", "ı": "i"})
# Letters with a stroke, which many type without it; Unicode does not take them apart.
_STROKES = str.maketrans("łøđ", "lod")
# Latin letters that other scripts have too, for words that mix the two.
_LOOKALIKES = str.maketrans("авеkмнорстухіјѕԁαορτυικν", "abekmhopctyxijsdaoptuikv")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0640\u064b-\u0655\ufe00-\ufe0f]")
_APOSTROPHES = re.compile(r"(?<=\w)['’‘ʼ`´](?=\w)")
_SPELLED = re.compile(r"(?<![^\W_])(?:[^\W\d_][ .\-_*]{1,2}){2,}[^\W\d_](?![^\W_])")
_HYPHEN = re.compile(r"(?<=\w)[-‐‑_*](?=\w)")
_SPACE = re.compile(r"\s+")
_AT_BREAK = r"(?=/(?:\s|$))"
# Letters and digits that a selector makes pictures; other pictures are no letters anyway.
_PICTURE = re.compile("[0-9#*\u2139\u24c2\u3297\u3299]\ufe0f\u20e3?")


class PhrasesError(SmsError):
    """A file of words and phrases that cannot be used."""


def fold(text: str) -> str:
    """Return a text in the spelling in which texts are compared: ` / ` between its clauses.

    Compatibility forms are made plain (NFKC), case and accents go, Turkish dotted and dotless i
    are one letter, what cannot be seen and pictures are blanks, s.p.e.l.l.e.d words are joined,
    and apostrophes inside words go. `Stop! Don't  text ME` becomes `/ stop / dont text me /`.
    """
    plain = unicodedata.normalize("NFKC", _PICTURE.sub(" ", text)).translate(_TURKISH).casefold()
    plain = plain.translate(_STROKES)
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", plain))
    plain = unicodedata.normalize("NFC", plain)
    plain = "".join(map(_seen, plain))
    plain = _SPELLED.sub(lambda found: re.sub(r"[ .\-_*]", "", found.group()), plain)
    plain = _HYPHEN.sub(" ", _APOSTROPHES.sub("", plain))
    spaced = "".join(map(_separated, plain))
    words = [_unmixed(word) for word in spaced.split()]
    kept = [BREAK]
    for word in words:
        if word != BREAK or kept[-1] != BREAK:
            kept.append(word)
    return " ".join([*kept, BREAK] if kept[-1] != BREAK else kept)


@lru_cache(maxsize=4096)
def _seen(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\r\u2028\u2029\x85\x0b\x0c":
        return "\n"
    if character == "$":
        return "s"
    if category == "Cf":
        return ""
    return " " if category[0] in "CZ" or category in ("So", "Sk") else character


@lru_cache(maxsize=4096)
def _separated(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LMN":
        return character
    return " " if character in " '’‘`´#*_=+&@%~^<>" else f" {BREAK} "


def _unmixed(word: str) -> str:
    if word.isascii() or not any("a" <= letter <= "z" for letter in word):
        return word
    return latin_lookalike(word)


def latin_lookalike(word: str) -> str:
    """Return the word with the Latin letters that its Cyrillic and Greek ones look like."""
    return word.translate(_LOOKALIKES)


@dataclass(frozen=True)
class Phrases:
    """All languages together: words by their folded spelling, phrases as patterns."""

    words: dict[str, dict[str, str]]
    """For each kind of word: folded word → the language it is of."""
    patterns: dict[str, re.Pattern[str]]
    """For each kind of phrase: what finds it in a folded text."""


@lru_cache(maxsize=1)
def phrases() -> Phrases:
    """Return the product's words and phrases. Raises `PhrasesError`, with the file."""
    return read(FOLDER)


def read(folder: Path) -> Phrases:
    """Read a folder of YAML files, one a language.

    A phrase is words as people write them; `{set}` is one word of a set of its file, `[a|b]` one
    of these or nothing, `a|b` one of these, `*ing` a word that ends so and is in no set, `...` up
    to three words, and `/` the beginning or end of a clause.
    """
    words: dict[str, dict[str, str]] = {kind: {} for kind in WORDS}
    found: dict[str, list[str]] = {kind: [] for kind in PHRASES}
    # Words that several languages share are named after English, then by the alphabet.
    files = sorted(folder.glob("*.yaml"), key=lambda path: (path.stem != "en", path.stem))
    if not files:
        raise PhrasesError(f"{folder}: no words for replies there; install the program again")
    for path in files:
        content = _content(path)
        language = str(content["language"])
        sets = {
            name: [fold(word).strip(" /") for word in members]
            for name, members in content.get("sets", {}).items()
        }
        for kind in WORDS:
            for word in content.get(kind, ()):
                words[kind].setdefault(fold(word).replace(" / ", " ").strip(" /"), language)
        for kind in PHRASES:
            found[kind] += [_pattern(path, phrase, sets) for phrase in content.get(kind, ())]
    patterns = {
        kind: re.compile(rf"(?<!\S)(?:{'|'.join(every)})" if every else r"(?!)")
        for kind, every in found.items()
    }
    return Phrases(words, patterns)


def _content(path: Path) -> dict:  # type: ignore[type-arg]
    try:
        # Every value as the text that stands there: no, yes and off are words here.
        content = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PhrasesError(f"{path}: this is no readable YAML; mend the file") from None
    if not isinstance(content, dict) or not content.get("language"):
        raise PhrasesError(f"{path}: the file needs a language")
    for key, value in content.items():
        if key not in _KEYS:
            raise PhrasesError(
                f"{path}: {key}: no such list; use one of {', '.join(sorted(_KEYS))}"
            )
        lists = value.values() if key == "sets" and isinstance(value, dict) else [value]
        if key not in ("language", "source") and not all(map(_is_list, lists)):
            raise PhrasesError(f"{path}: {key}: needs a list of words or phrases")
    return content


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)


def _pattern(path: Path, phrase: str, sets: dict[str, list[str]]) -> str:
    made: list[str] = []
    for part in re.findall(r"\[[^\]]*\]|\S+", phrase):
        optional = part.startswith("[")
        if part == "[/]":
            made.append(r"(?:/ )?")
        elif part == BREAK:
            # Looked at, not taken: the same break ends one phrase and begins the next.
            made.append(_AT_BREAK if made else r"(?<=/ )")
        elif part == "...":
            made.append(r"(?:[^/\s]+ ){0,3}")
        elif part == "*ing":
            known = "|".join(re.escape(word) for words in sets.values() for word in words)
            made.append(rf"(?!(?:{known})(?!\S))[^/\s]+ing(?:\s|$)")
        else:
            each = [
                alternative
                for name in part.strip("[]").split("|")
                for alternative in _alternatives(path, name, sets)
            ]
            made.append(f"(?:{'|'.join(each)}){'?' if optional else ''}")
    return "".join(made)


def _alternatives(path: Path, name: str, sets: dict[str, list[str]]) -> list[str]:
    if name == BREAK:
        return [_AT_BREAK]
    words = [name.replace("_", " ")]
    if name.startswith("{"):
        if name.strip("{}") not in sets:
            raise PhrasesError(f"{path}: {name}: the file has no such set")
        words = sets[name.strip("{}")]
    folded = [fold(word).strip(" /") for word in words]
    if not all(folded):
        raise PhrasesError(f"{path}: {name}: no word")
    return [rf"{re.escape(word)}(?:\s|$)" for word in folded]
