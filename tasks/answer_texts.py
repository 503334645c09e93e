"""The words of the answers to replies, in one place. When they are sent says `answering`.

Each is one segment for a brand and a contact of usual length (`settings().brand`, `.help_contact`).
"""

from data.settings import settings

OUR_MESSAGES = "our messages"
QUESTION_VERSION = "question-1"
"""Raise it with every change of `question`: consent rests on the words that were shown."""


def confirmation() -> str:
    """The one answer to an opt-out: who we are, and that no more messages come.

    Nothing in it may promote anything (47 CFR 64.1200(a)(12)).
    """
    contact = settings().help_contact
    told = "You are opted out and will get no more messages from us. Reply START to get them again."
    return _from_us(f"{told} Help: {contact}" if contact else told)


def welcome() -> str:
    """The answer to somebody who opts in, as the CTIA's Messaging Principles ask for it."""
    return _from_us(
        "You will get our messages. How often varies, message and data rates may apply."
        " Reply HELP for help. Reply STOP to opt out."
    )


def help_answer() -> str:
    """The answer to HELP; empty where there is no contact to name."""
    contact = settings().help_contact
    return _from_us(f"For help: {contact}. Reply STOP to opt out.") if contact else ""


def question(wording: str) -> str:
    """What somebody is asked who is to say YES. `wording`: what they would get."""
    return _from_us(f"Reply YES to get {wording}. Reply STOP to opt out.")


def _from_us(text: str) -> str:
    brand = settings().brand
    return f"{brand}: {text}" if brand else text
