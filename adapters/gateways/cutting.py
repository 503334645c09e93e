"""Texts that a self-hosted gateway would cut off without a word, and that are not sent for it."""

from collections.abc import Sequence

from adapters.gateways.base import Answer, ErrorClass, Outgoing


def uncut(messages: Sequence[Outgoing], most: int) -> tuple[list[Outgoing], list[Answer]]:
    """Return the messages of at most so many segments, and refusals of the others."""
    whole = [message for message in messages if message.segments <= most]
    refusals = [
        Answer(
            message.id,
            "refused",
            error_class=ErrorClass.CONTENT,
            error_code="too_long",
            error_text=f"the text has more than {most} segments (max_parts), and would be cut off",
        )
        for message in messages
        if message.segments > most
    ]
    return whole, refusals
