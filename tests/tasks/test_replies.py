"""What replies ask for: worked cases in several languages, and what never changes the answer."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.replies import classify
from tasks.reply_phrases import PhrasesError, fold, phrases, read

CASES = [
    pytest.param(kind, text, id=f"{kind}-{group}-{at}")
    for kind, groups in yaml.safe_load(
        Path(__file__).with_name("replies.yaml").read_text("utf-8")
    ).items()
    for group, texts in groups.items()
    for at, text in enumerate(texts)
]
KEYWORDS = {kind: sorted(phrases().words[kind]) for kind in ("opt_out", "opt_in", "help")}
FOOTERS = [
    "Reply STOP to opt out",
    "Text STOP to end",
    "Txt STOP to 36111",
    "Reply STOP to unsubscribe, HELP for help",
    "Répondez STOP pour vous désabonner",
    "Antworte STOP zum Abmelden",
    "Responde BAJA para cancelar",
    "Responda SAIR para cancelar",
    "Rispondi STOP per annullare",
    "Antwoord STOP om af te melden",
]


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_a_reply_asks_for(kind: str, text: str) -> None:
    assert classify(text).kind == kind, text


def test_a_bare_yes_says_something_only_where_a_question_waits() -> None:
    for text in ("YES", "y", "Oui", "sí", "JA", "Yes please", "ok thanks", "Yes! 👍"):
        assert classify(text, question_pending=True).kind == "opt_in", text
        assert classify(text).kind in ("review", "none"), text


@pytest.mark.parametrize("text", ["NO", "n", "no thanks", "Nein danke", "non merci"])
def test_no_to_a_question_changes_nothing(text: str) -> None:
    reply = classify(text, question_pending=True)
    assert (reply.kind, reply.why, reply.review) == ("none", "declined", False)


@pytest.mark.parametrize("text", ["STOP", "yes stop", "no, stop", "unsubscribe me", "stpo"])
def test_an_opt_out_is_one_also_where_a_question_waits(text: str) -> None:
    assert classify(text, question_pending=True).kind == "opt_out"


@pytest.mark.parametrize(
    ("text", "why"),
    [("STOP", "keyword:en"), ("Arrêt.", "keyword:fr"), ("İPTAL", "keyword:other")],
)
def test_a_keyword_needs_no_person(text: str, why: str) -> None:
    reply = classify(text)
    assert (reply.why, reply.review) == (why, False)


@pytest.mark.parametrize(
    "text",
    [
        *("stop please", "stop?", "stpo", "stoip", "take me off your list", "YES"),
        *(
            "Text STOP",
            "enough already stop",
            "🛑",
            "ЅТОР",
            "wypiszcie mnie",
            "请不要再发短信",
            "ладно",
        ),
    ],
)
def test_what_is_not_a_keyword_alone_is_shown_to_a_person(text: str) -> None:
    assert classify(text).review


KEYWORD = st.sampled_from([(kind, word) for kind, words in KEYWORDS.items() for word in words])
AROUND = st.text(st.sampled_from(" \t\n.!,;:-\"'()*~…“”»🛑🙏👍❤️\u200b\u00a0\ufeff"), max_size=8)


@settings(deadline=None, max_examples=300)
@given(KEYWORD, AROUND, AROUND, st.randoms(use_true_random=False))
def test_case_and_surroundings_never_change_a_keyword(keyword, before, after, chance) -> None:
    kind, word = keyword
    cased = "".join(chance.choice((letter.upper(), letter)) for letter in word)
    if fold(cased) != fold(word):  # no letter has two spellings of one case there
        cased = word
    assert classify(before + cased + after).kind == kind


@settings(deadline=None, max_examples=200)
@given(KEYWORD)
def test_full_width_letters_are_letters(keyword) -> None:
    kind, word = keyword
    wide = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in word)
    assert classify(wide).kind == kind


PIECES = ["Acme", "sale", "20% off", "hello", "Ann", "until Sunday", "we open at nine", "thanks"]
WORDS = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(WORDS, st.sampled_from(FOOTERS), st.sampled_from(["{}", "> {}", "“{}”", "Liked “{}”"]))
def test_a_copy_of_our_own_sentence_is_no_opt_out(words, footer, quoted) -> None:
    assert classify(quoted.format(f"{words}. {footer}")).kind != "opt_out"


@settings(deadline=None, max_examples=100)
@given(WORDS, st.sampled_from(FOOTERS), st.booleans())
def test_own_words_beside_a_quotation_count(words, footer, first) -> None:
    quoted = f"> {words}. {footer}"
    lines = ["STOP", quoted] if first else [quoted, "STOP"]
    assert classify("\n".join(lines)).kind == "opt_out"


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["", "please ", "Pls ", "hey, ", "I said "]),
    st.sampled_from(["don't", "dont", "don’t", "do not", "never", "DON'T EVER", "please do not"]),
    st.sampled_from(["stop", "unsubscribe me", "opt me out", "stop texting me", "remove me"]),
    AROUND,
)
def test_a_negated_request_is_no_opt_out(polite, negation, request, after) -> None:
    assert classify(f"{polite}{negation} {request}{after}").kind != "opt_out"


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=400))
def test_any_text_is_something(text: str) -> None:
    assert classify(text).kind in ("opt_out", "opt_in", "help", "review", "none")


@pytest.mark.parametrize(
    "piece",
    [
        "stop ",
        "a ",
        "a.",
        "please ",
        "I do not want ",
        "“",
        "> ",
        "no more ",
        "/",
        "\n",
        "ｓ",
        "to ",
    ],
)
def test_a_long_text_is_something(piece: str) -> None:
    assert classify((piece * 10_000)[:10_000]).kind in ("opt_out", "review", "none")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("opt_out: [a]", "needs a language"),
        ("language: xx\nkeywords: [a]", "keywords: no such list"),
        ("language: xx\nopt_out: a", "opt_out: needs a list"),
        ("language: xx\nopt_out: [", "no readable YAML"),
        ('language: xx\nrequests: ["{none} a"]', "no such set"),
        ("language: xx\nrequests: ['a ...', '!']", "no word"),
    ],
)
def test_a_bad_file_of_words_is_refused_with_its_name(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "xx.yaml").write_text(content)
    with pytest.raises(PhrasesError, match=said) as error:
        read(tmp_path)
    assert "xx.yaml" in str(error.value)
