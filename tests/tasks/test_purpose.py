"""Promotional content raises a purpose and nothing lowers one; how to opt out is said or added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.rules import PURPOSES
from tasks.purpose import raised, says_how_to_opt_out, with_opt_out

PROMOTIONS = [
    ("20% off everything", "20% off"),
    ("Get 50 % off today", "50 % off"),
    ("Take $5 off your next visit", "$5 off"),
    ("10 € off", "10 € off"),
    ("Save up to 30%", "Save up to 30%"),
    ("Our sale ends Sunday", "sale"),
    ("Your order is ready. SPRING SALE now on!", "SPRING SALE"),
    ("A discount is waiting", "discount"),
    ("Use coupon ABC", "coupon"),
    ("Your promo code is ABC", "promo code"),
    ("Today's deals are here", "deals"),
    ("A special offer for you", "offer"),
    ("A free gift for you", "free gift"),
    ("Buy now", "Buy now"),
    ("Shop now at example.com", "Shop now"),
    ("Nur heute Rabatt", "Rabatt"),
    ("Unser Angebot der Woche", "Angebot"),
    ("Sonderangebote im Mai", "Sonderangebote"),
    ("Les soldes commencent", "soldes"),
    ("Promo du jour", "Promo"),
    ("Une réduction pour vous", "réduction"),
    ("-20% sur tout", "-20% sur"),
    ("La oferta termina hoy", "oferta"),
    ("Descuento especial", "Descuento"),
    ("Sconto del 20%", "Sconto"),
    ("Korting op alles", "Korting"),
    ("Ein Spaß: 20 % Rabatt", "20 % rabatt"),
    ("Ｓａｌｅ ends today", "Ｓａｌｅ"),
    # What the audience fills in may be any number; what a template holds for some is promotional.
    ("{{ percent }}% off, {{ first_name }}", "…% off"),
    ("Ready.{% if plan == 'gold' %} Free shipping for you{% endif %}", "Free shipping"),
    ("Hi {{ note | default('20% off') }}", "20% off"),
]


@pytest.mark.parametrize("purpose", ["transactional", "alert", "otp"])
@pytest.mark.parametrize(("message", "words"), PROMOTIONS)
def test_promotional_words_make_it_marketing_and_are_named(
    purpose: str, message: str, words: str
) -> None:
    now, why = raised(purpose, message)
    assert now == "marketing"
    assert f"“{words}”" in why


@pytest.mark.parametrize(
    "message",
    [
        "Your order is ready",
        "20% of your data is used",
        "Your free appointment slot: Monday 10:00",
        "Your code is {{ code }}",
        "{{ first_name | default('there') }}, your parcel is on its way",
        "Votre solde est de 12 €",
        "Your sale of item 12 is complete",
        "Congratulations on your promotion",
        "Your job offer letter is ready to sign",
        "We offer our condolences",
        "Battery at -20%",
        "A great deal of rain: flood warning",
        "Please deal with the alarm in hall 2",
        "Sales order 12 has shipped",
        "Votre offre d'emploi est en ligne",
        "Switch the pump off at 20%",
        "Stop by to collect it",
    ],
)
def test_words_of_everyday_service_raise_nothing(message: str) -> None:
    assert raised("transactional", message) == ("transactional", "")


def test_content_named_promotional_makes_it_marketing() -> None:
    assert raised("alert", "Hello", ["promotional"])[0] == "marketing"
    assert raised("alert", "Hello", ["alcohol"]) == ("alert", "")


@given(st.sampled_from(PURPOSES), st.text(), st.lists(st.sampled_from(["promotional", "url"])))
def test_a_purpose_is_never_lowered(purpose: str, message: str, content: list[str]) -> None:
    now, why = raised(purpose, message, content)
    assert now in (purpose, "marketing")
    assert (now != purpose) == bool(why)
    assert raised("marketing", message, content) == ("marketing", "")


@pytest.mark.parametrize(
    "message",
    [
        "Hi. Reply STOP to opt out",
        "Reply stop to end",
        "reply with “stop”",
        "STOP to end",
        "STOP2END",
        "Info: STOP 36180",
        "envoyez stop au 36180",
        "Répondez ARRÊT",
        "Antworten Sie mit STOPP",
        "Abmelden: example.com/x",
        "Responda SAIR",
        "Envía BAJA",
        "回复TD退订",
        "Hi {{ name }}, opt out: example.com/o",
        "BIG SALE! REPLY STOP",
    ],
)
def test_a_message_that_says_how_to_opt_out_is_left_as_it_is(message: str) -> None:
    assert says_how_to_opt_out(message)
    assert with_opt_out(message, "Reply STOP to opt out") == message


@pytest.mark.parametrize(
    "message",
    [
        "Stop by our shop",
        "Don't stop now",
        "this weekend",
        "The end of summer",
        "Cancel your plans",
        "Greetings from Baja California",
        "SALE! STOP BY TODAY",
        "Your next stop is Main Street",
    ],
)
def test_words_that_only_look_like_it_tell_nobody_how(message: str) -> None:
    assert not says_how_to_opt_out(message)
    told = with_opt_out(f"{message} \n", " Reply STOP to opt out ")
    assert told == f"{message} Reply STOP to opt out"
    assert says_how_to_opt_out(told)


def test_nothing_is_added_twice_or_where_nothing_was_given() -> None:
    once = with_opt_out("Hi", "Leave: example.com/o")
    assert once == "Hi Leave: example.com/o"
    assert with_opt_out(once, "Leave: example.com/o") == once
    assert with_opt_out("Hi", " ") == "Hi"


@pytest.mark.parametrize(
    "kind", ["promotional", "Promo", "advertising", "ads", "discount", "Cross-Sell", "cross sell"]
)
@pytest.mark.parametrize("purpose", ["transactional", "alert", "otp"])
def test_content_that_promotes_by_any_name_makes_it_marketing(purpose: str, kind: str) -> None:
    assert raised(purpose, "Your order is ready", [kind])[0] == "marketing"


def test_other_content_leaves_the_purpose() -> None:
    assert raised("alert", "Your order is ready", ["url", "political"]) == ("alert", "")


def test_scripts_without_spaces_tell_how_to_opt_out() -> None:
    assert says_how_to_opt_out("拒收请回复TD")
