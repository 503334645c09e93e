"""Codes in words, and sample texts that show the message and no person."""

import pytest

from tasks.wording import OUTCOMES, SampleText, reason, share

MESSAGE = "Hi {{ first_name | default('there') }}, 20% off 🎉 until Sunday. Reply STOP"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Zerlina", "Z•••"),
        ("there", "there"),
        # A name that is a word of the message, even of its end.
        ("Sunday", "S•••"),
        ("Reply STOP", "R••• S•••"),
        ("A", "•••"),
        ("4711", "•••"),
        ("+1 (202) 555-0101", "••• (•••) •••"),
        ("Anna-Lena Q.", "A••• •••."),
        ("陽菜", "陽•••"),
        ("🌸", "•••"),
    ],
)
def test_sample_texts_show_the_message_and_first_letters_only(value: str, shown: str) -> None:
    text = "Hi {}, 20% off 🎉 until Sunday. Reply STOP"
    assert SampleText(MESSAGE).mask(text.format(value)) == text.format(shown)


@pytest.mark.parametrize(
    ("source", "text", "shown"),
    [
        ("{{ a }}", "Zerlina Kunz", "Z••• K•••"),
        ("Hi {{ a }}", "Some other text", "S••• o••• t•••"),
        ("Hello all", "Hello all", "Hello all"),
        ("“Hi” {{ a }}…", '"Hi" Zerlina...', '"Hi" Z•••...'),
        ("{{ a }} {{ b }}!", "Zerlina Kunz!", "Z••• K•••!"),
        ("Hi{% if plan == 'gold' %} Gold {{ a }}{% endif %}.", "Hi Gold Zerlina.", "Hi Gold Z•••."),
        ("{{ a }}{# note #} end end", "end end end", "e••• end end"),
    ],
)
def test_sample_texts_follow_any_message(source: str, text: str, shown: str) -> None:
    assert SampleText(source).mask(text) == shown


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("gateway_30003", "The gateway's error 30003"),
        ("missing_value:first_name", "The message needs first_name, which this row lacks"),
        ("opt_in_unclear", "The opt-in is neither a yes nor a no"),
        ("something_new", "something_new"),
    ],
)
def test_reason_codes_have_words(code: str, words: str) -> None:
    assert reason(code) == words


def test_a_reason_of_the_validation_and_of_a_rule_have_their_own_words() -> None:
    assert reason("unknown_country", "invalid").startswith("The country is not")
    assert reason("unknown_country", "blocked") == "No rules are known for this country"


@pytest.mark.parametrize(
    "code",
    [
        *("invalid_number", "line_type", "reassigned", "deactivated", "moratorium", "opted_out"),
        *("audience_opt_out", "reply_review", "unknown_country", "unknown_subdivision"),
        *("no_consent", "consent_expired", "registry_listed", "opt_out_text"),
        *("content_prohibited", "age_gate", "registration_required", "sender_id"),
        *("confirmation_already_sent", "confirmation_too_late", "nothing_to_confirm"),
        *("frequency_cap", "zone_unknown", "quiet_hours", "day_not_allowed", "campaign_window"),
        *("no_common_window", "deadline"),
    ],
)
def test_every_reason_of_the_judgement_has_words(code: str) -> None:
    assert reason(code, "blocked") != code


def test_every_outcome_has_words() -> None:
    assert len(OUTCOMES) == 14


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 0, "0.0 %"),
        (1, 10**7, "< 0.1 %"),
        (10**7 - 1, 10**7, "> 99.9 %"),
        (7, 7, "100.0 %"),
    ],
)
def test_shares_never_round_something_to_nothing(part: int, whole: int, words: str) -> None:
    assert share(part, whole) == words
