"""How many SMS segments a text takes, whatever the gateway. Source: 3GPP TS 23.038 and 23.040."""

import re

_GSM7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENDED = "\f^{}\\[~]|€"
_NOT_GSM7 = re.compile(f"[^{re.escape(_GSM7_BASIC + _GSM7_EXTENDED)}]")
_EXTENDED = re.compile(f"[{re.escape(_GSM7_EXTENDED)}]")


def count_segments(body: str) -> int:
    """Count SMS segments: 160/153 GSM-7 septets or 70/67 UTF-16 units, no character split."""
    if _NOT_GSM7.search(body):
        # Characters outside the BMP are two units, a surrogate pair.
        return _pack([2 if char > "\uffff" else 1 for char in body], 70, 67)
    if not _EXTENDED.search(body):
        return 1 if len(body) <= 160 else -(-len(body) // 153)
    return _pack([2 if char in _GSM7_EXTENDED else 1 for char in body], 160, 153)


def _pack(widths: list[int], alone: int, part: int) -> int:
    if sum(widths) <= alone:
        return 1
    segments, room = 1, part
    for width in widths:
        if width > room:
            segments, room = segments + 1, part
        room -= width
    return segments


def as_gsm7(body: str) -> str:
    """Replace by a question mark what GSM-7 has no character for."""
    return _NOT_GSM7.sub("?", body)
