"""What somebody who replied wants: out, in, help, nothing, or a person's look.

Here: the order of judging one reply. Not here: the words and phrases (data/replies), how they are
compared (tasks.reply_phrases), and what follows from a reply (tasks.answering).
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from tasks.reply_phrases import BREAK, Phrases, fold, latin_lookalike, phrases

OPT_OUT, OPT_IN, HELP, REVIEW, NONE = "opt_out", "opt_in", "help", "review", "none"

_QUOTED_LINE = re.compile(r"\s*(?:>|&gt;|\|)")
_ORIGINAL = re.compile(
    r"\s*(?:-{2,}\s*\w[\w ]{3,30}-{2,}|(?:on|am|le|el|il|em|op)\b.{4,120}"
    r"\b(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef)\b.{0,60}:)\s*$",
    re.IGNORECASE,
)
_OPENING, _CLOSING = '“”„«»‹›「『"＂‟', '”“»«›‹」』"＂'
_QUOTATION = re.compile(rf"[{_OPENING}]")
_REACTION_WORDS = 6
_NOTHING = "_"
_NEAR = 3
"""So many words more leave a keyword at the beginning the keyword of the reply."""
_LONG = 8
"""Keywords longer than that are recognised with two slips."""
_SHORT = 8
"""So many words that end with a keyword ask for what it says."""
_FEW_LETTERS, _UNSPACED = 24, 12
"""So many letters are a short text; so many at most are a word where blanks are written."""
_STOP_SIGN = re.compile("[🛑⛔🚫]")


@dataclass(frozen=True)
class Reply:
    """What a reply is."""

    kind: str
    """opt_out, opt_in, help, review (held for a person), none"""
    why: str
    """By what it was recognised: keyword:en, phrase, near miss, …; never the text."""
    review: bool
    """Whether a person is to look at it, also where it was acted on."""


def classify(text: str, *, question_pending: bool = False) -> Reply:
    """Return what a reply asks for.

    question_pending: this number was asked to confirm that it wants messages; without that, a
    bare YES says nothing. In doubt between nothing and an opt-out it is an opt-out, with a
    review: that costs a contact, the other way it costs a right.
    """
    known = phrases()
    own = _own_text(text, known)
    body = _cut(known.patterns["footers"], fold(own))
    words = _words(body)
    if not _core(words, known) and _STOP_SIGN.search(own):
        return Reply(OPT_OUT, "sign", True)
    if not words:
        return Reply(NONE, "empty", False)
    if known.patterns["automatic"].match(body, 2):
        return Reply(NONE, "automatic", False)
    return (
        _keyword(words, text, known, question_pending)
        or _request(body, known)
        or _not_understood(body, text, known)
        or Reply(NONE, "other", False)
    )


def _words(body: str) -> list[str]:
    return [word for word in body.split() if word != BREAK]


def _own_text(text: str, known: Phrases) -> str:
    """The text without what it quotes: reactions and quoted lines."""
    text = _without_reaction(text, known)
    lines = []
    for line in text.splitlines():
        if _ORIGINAL.match(line):
            break
        if _QUOTED_LINE.match(line) and not _is_keyword(fold(line), known):
            continue
        lines.append(line)
    return "\n".join(lines)


def _is_keyword(body: str, known: Phrases) -> bool:
    return " ".join(_words(body)) in known.words["opt_out"]


def _without_reaction(text: str, known: Phrases) -> str:
    opening = _QUOTATION.search(text)
    if not opening:
        return text
    before = text[: opening.start()]
    folded = fold(before)
    words = _words(folded)
    told = known.patterns["reactions"].match(folded, 2) or (_is_picture(before) and len(words) <= 3)
    if not told or len(words) > _REACTION_WORDS or set(words) & known.words["firm"].keys():
        return text
    end = max(text.rfind(closing, opening.end()) for closing in _CLOSING)
    quoted, after = (
        (text[opening.end() : end], text[end + 1 :]) if end > 0 else (text[opening.end() :], "")
    )
    return after if words and _words(fold(quoted)) else text


def _is_picture(before: str) -> bool:
    """`👍 to “…”`: how telephones of other makes tell of a reaction."""
    return unicodedata.category(before.lstrip()[:1] or " ") == "So"


def _cut(pattern: re.Pattern[str], body: str) -> str:
    """The text with what the pattern finds made a break between clauses."""
    cut = pattern.sub(f"{BREAK} ", body)
    return re.sub(rf"{BREAK}(?: {BREAK})+", BREAK, cut)


def _blank(pattern: re.Pattern[str], body: str) -> str:
    """The text with what the pattern finds as a word that means nothing."""
    return pattern.sub(f"{_NOTHING} ", body)


def _keyword(words: list[str], text: str, known: Phrases, question_pending: bool) -> Reply | None:
    """A word that is the whole reply, or all but politeness."""
    whole = " ".join(words if len(set(words)) > 1 else words[:1])
    core = _core(words, known) or words[0]
    if question_pending and not {whole, core} & known.words[OPT_OUT].keys():
        if {whole, core} & known.words["yes"].keys():
            return Reply(OPT_IN, "answer", False)
        if {whole, core} & known.words["no"].keys():
            return Reply(NONE, "declined", False)
    for said in (whole, core):
        for kind in (OPT_OUT, OPT_IN, HELP):
            if said in known.words[kind]:
                unsure = kind == OPT_OUT and (said != whole or "?" in text)
                return Reply(kind, f"keyword:{known.words[kind][said]}", unsure)
    return None


def _core(words: list[str], known: Phrases) -> str:
    """The words without politeness around them."""
    polite = known.words["polite"]
    first, last = 0, len(words)
    while first < last and words[first] in polite:
        first += 1
    while last > first and words[last - 1] in polite:
        last -= 1
    return " ".join(words[first:last])


def _request(body: str, known: Phrases) -> Reply | None:
    """What is asked for in more words than one."""
    mended, slips = _mended(body, known)
    if known.patterns["held"].search(mended):
        return Reply(REVIEW, "unclear", True)
    mended = _blank(known.patterns["unrelated"], mended)
    requested, rest = _unnegated(known.patterns["requests"], mended, known)
    requested = requested or _inside(mended, known)
    unclear = known.patterns["unclear"].search(rest)
    clauses = [clause.split() for clause in rest.split(BREAK) if clause.strip()]
    meant = slips and _core(_words(mended), known) in known.words[OPT_OUT]
    if requested or meant or _standing_alone(clauses, rest, unclear, known):
        return Reply(OPT_OUT, "near miss" if slips else "phrase", True)
    left = {word for clause in clauses for word in clause}
    if unclear or (not slips and left & known.words["firm"].keys()):
        return Reply(REVIEW, "unclear" if unclear else "keyword in text", True)
    if clauses and _core(clauses[0], known) in known.words[HELP]:
        return Reply(HELP, "keyword in text", False)
    return None


def _unnegated(pattern: re.Pattern[str], body: str, known: Phrases) -> tuple[bool, str]:
    """Whether the pattern occurs without a negation before it, and the text without those."""
    before, found = 0, False
    kept = []
    for match in pattern.finditer(body):
        if _negated(body[: match.start()], known):
            kept.append(body[before : match.start()])
            before = match.end()
        else:
            found = True
    rest = f"{_NOTHING} ".join([*kept, body[before:]])
    return found, _without_negated(rest, known)


def _without_negated(body: str, known: Phrases) -> str:
    """Take out the keywords that a negation turns round: `dont stop`."""
    words = body.split()
    kept: list[str] = []
    for word in words:
        if word in known.words["firm"] and _negated(" ".join([*kept[-12:], ""]), known):
            kept.append(_NOTHING)
        else:
            kept.append(word)
    return " ".join(kept)


def _negated(before: str, known: Phrases) -> bool:
    """Whether what comes next is negated: a negation ends the clause, little stands between."""
    clause = before.rpartition(BREAK)[2].split()[-12:]
    between = 0
    while clause and between < 5:
        for length in (3, 2, 1):
            tail = " ".join(clause[-length:])
            if len(clause) >= length and known.patterns["negations"].fullmatch(f"{tail} "):
                return not _complains(clause[:-length], known)
        if not known.patterns["between"].fullmatch(f"{clause[-1]} "):
            return False
        clause.pop()
        between += 1
    return False


def _complains(before: list[str], known: Phrases) -> bool:
    """`if you don't stop` complains of what `I don't stop` does not."""
    return bool(before) and bool(
        known.patterns["complaints"].fullmatch(f"{before[-1]} ")
        or known.patterns["complaints"].fullmatch(" ".join([*before[-2:], ""]))
    )


def _standing_alone(
    clauses: list[list[str]], rest: str, unclear: re.Match[str] | None, known: Phrases
) -> bool:
    """A keyword as a clause or line of its own, or at the beginning of one."""
    firm, every = known.words["firm"], known.words[OPT_OUT]
    cores = [_core(clause, known) for clause in clauses]
    whole = len(cores) == 1 and cores[0] in known.words["bare"]
    if whole or any(core in firm for core in cores) or _ends_with_keyword(cores, rest, known):
        return True
    if not cores:
        return False
    others = sum(map(len, clauses[1:]))
    if cores[0] in every and len(clauses) > 1 and (unclear or others <= _NEAR):
        return True
    first = cores[0].split()
    if not first:
        return False
    if first[0] in firm:
        return not unclear or not rest[unclear.start() :].startswith(first[0])
    return first[0] in every and bool(unclear) and len(first) + others <= 8


def _ends_with_keyword(cores: list[str], rest: str, known: Phrases) -> bool:
    """A short text that ends with a keyword as a request: `enough already stop`."""
    last = cores[-1].split() if cores else []
    return (
        len(last) > 1
        and last[-1] in known.words["bare"]
        and last[-2] != _NOTHING
        and len(_words(rest)) <= _SHORT
        and not known.patterns["unasked"].search(rest)
    )


def _inside(body: str, known: Phrases) -> bool:
    """A request in a script that writes no blanks between words."""
    if body.isascii() or not any(said in body for said in known.words["inside"]):
        return False
    for other in known.words["inside_not"]:
        body = body.replace(other, _NOTHING)
    return any(said in body for said in known.words["inside"])


def _not_understood(body: str, text: str, known: Phrases) -> Reply | None:
    """A text of another script: held where it says little and asks nothing, or has a keyword."""
    words = _words(body)
    letters = [letter for word in words for letter in word if letter.isalpha()]
    foreign = sum(map(_is_foreign, letters))
    core = _core(words, known)
    if not core or foreign * 2 <= len(letters):
        return None
    spoken = " ".join(words)
    if known.patterns["unrelated"].search(body) or any(
        other in spoken for other in known.words["inside_not"]
    ):
        return None
    blanks = " " in spoken or max(map(len, words)) <= _UNSPACED
    short = len(core.split()) <= _NEAR and blanks and len(letters) <= _FEW_LETTERS
    asks = any(sign in text for sign in "?？؟;")
    if (short and not asks) or any(
        len(keyword) > 1 and not keyword.isascii() and keyword in spoken
        for keyword in known.words[OPT_OUT]
    ):
        return Reply(REVIEW, "not understood", True)
    return None


def _is_foreign(letter: str) -> bool:
    """Whether a letter is of another script than Latin."""
    return letter >= "\u0370" and not "\u1e00" <= letter <= "\u1eff"


def _mended(body: str, known: Phrases) -> tuple[str, bool]:
    """The text with slips of the finger in the long keywords put right, and whether any were."""
    words = body.split()
    spoken = _words(body)
    joined = "".join(spoken)
    if 1 < len(spoken) <= 4 and joined in known.words["slips"]:
        return f"{BREAK} {joined} {BREAK}", True
    alone = len(_core(spoken, known).split()) == 1
    mended = [_meant(word, alone, known) for word in words]
    return " ".join(mended), mended != words


_KEYBOARD = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_LOOKS_LIKE = {"o": "0", "i": "1l!", "l": "1i", "s": "5z", "e": "3", "t": "7", "a": "4", "b": "8"}


@lru_cache(maxsize=1)
def _slips() -> dict[str, str]:
    """Every single slip of the finger of the long keywords, and what was meant."""
    known = phrases().words
    slips: dict[str, str] = {}
    for word in known["slips"]:
        for at, letter in enumerate(word):
            head, tail = word[:at], word[at + 1 :]
            near = _neighbours(letter) + _LOOKS_LIKE.get(letter, "")
            variants = {head + other + tail for other in near}
            variants |= {head + tail, head + letter + letter + tail}
            if tail:
                variants.add(head + tail[0] + letter + tail[1:])
            for variant in variants - known["no_slips"].keys() - known["slips"].keys():
                slips.setdefault(variant, word)
    return slips


def _neighbours(letter: str) -> str:
    """The keys around this one; each row of a keyboard is moved half a key against the next."""
    places = ((row, keys.find(letter)) for row, keys in enumerate(_KEYBOARD) if letter in keys)
    row, at = next(places, (-9, 0))
    around = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    return "".join(
        _KEYBOARD[row + down][at + right]
        for down, right in around
        if 0 <= row + down < len(_KEYBOARD) and 0 <= at + right < len(_KEYBOARD[row + down])
    )


def _meant(word: str, alone: bool, known: Phrases) -> str:
    plain = word.rstrip("0123456789")
    if plain != word and plain in known.words["firm"]:
        return plain
    if len(word) < 3 or len(word) > 40 or any(word in each for each in known.words.values()):
        return word
    once = _unrepeated(word)
    found = once if once in known.words["slips"] else None
    meant = found or _slips().get(word) or _slips().get(once) or _far_slip(word)
    meant = meant or _lookalike(word, known) or (_inserted(word, known) if alone else None)
    if not meant or (meant in known.words["slips_alone"] and not alone):
        return word
    return meant


def _lookalike(word: str, known: Phrases) -> str | None:
    """The keyword that a word of Cyrillic or Greek letters looks like, С also for its sound."""
    if word.isascii():
        return None
    latin = latin_lookalike(word)
    return next(
        (each for each in (latin, latin.replace("c", "s")) if each in known.words["slips"]), None
    )


def _inserted(word: str, known: Phrases) -> str | None:
    """The keyword that a word is with one letter too many, wherever that is."""
    shorter = (word[:at] + word[at + 1 :] for at in range(len(word)))
    return next((each for each in shorter if each in known.words["slips"]), None)


def _unrepeated(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", word)


@lru_cache(maxsize=1024)
def _far_slip(word: str) -> str | None:
    long = (keyword for keyword in phrases().words["slips"] if len(keyword) > _LONG)
    near = (keyword for keyword in long if word[0] == keyword[0] and _distance(word, keyword) <= 2)
    return next(near, None) if len(word) >= _LONG else None


def _distance(one: str, other: str) -> int:
    """Letters to add, take out, change or swap to make one word the other."""
    rows = [list(range(len(other) + 1))]
    for at, letter in enumerate(one, 1):
        row = [at]
        for to, wanted in enumerate(other, 1):
            best = min(rows[-1][to] + 1, row[-1] + 1, rows[-1][to - 1] + (letter != wanted))
            if at > 1 and to > 1 and letter == other[to - 2] and one[at - 2] == wanted:
                best = min(best, rows[-2][to - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
