"""Texts as SMPP carries them: GSM-7 with one character an octet, UCS-2, and parts of long ones.

Alphabet: 3GPP TS 23.038; header of concatenated parts: 3GPP TS 23.040, 9.2.3.24.1. Not here: how
many segments a text costs (`tasks/segments`), which must come to the same number.
"""

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = {
    "\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F,
    "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65,
}  # fmt: skip
_ESCAPE = 0x1B
_OCTETS = {character: bytes([code]) for code, character in enumerate(_BASIC) if code != _ESCAPE}
_OCTETS |= {character: bytes([_ESCAPE, code]) for character, code in _EXTENSION.items()}
_EXTENDED = {code: character for character, code in _EXTENSION.items()}

GSM7, LATIN1, UCS2 = 0x00, 0x03, 0x08
"""Values of `data_coding` (SMPP 3.4, 5.2.19). 0 is the SMSC's default alphabet: GSM-7 at most."""
_SIZES = {GSM7: (160, 153), UCS2: (140, 134)}
"""Octets of a text that stands alone, and of a part beside its header of 6."""
_MOST_PARTS = 255

# 1 is ASCII, which is the lower half of Latin-1; 2 and 4 are octets, which mostly are text. Of what
# is not here (JIS and others) the octets of ASCII are read, and the rest is replaced.
_CODECS = {
    GSM7: "", 1: "latin-1", 2: "latin-1", LATIN1: "latin-1", 4: "latin-1",
    6: "iso8859_5", 7: "iso8859_8", UCS2: "utf-16-be",
}  # fmt: skip
_CODECS_BY_BITS = ("", "latin-1", "utf-16-be", "ascii")
"""By bits 3 and 2 of a GSM data coding scheme: GSM-7, octets, UCS-2, reserved."""


def coding(encoding: str) -> int:
    """Return the `data_coding` of an encoding as the planner names it."""
    return GSM7 if encoding == "GSM-7" else UCS2


def parts(text: str, data_coding: int, reference: int) -> list[bytes]:
    """Return what each `short_message` carries: the text, or its parts with their headers.

    `reference` (0 to 255) is what the parts have in common. No character is torn apart. Raises
    `ValueError` where the text has a character that the coding lacks, or too many parts.
    """
    try:
        characters = [
            _OCTETS[character] if data_coding == GSM7 else character.encode("utf-16-be")
            for character in text
        ]
    except (KeyError, UnicodeEncodeError):
        raise ValueError("the text has a character that its encoding lacks") from None
    alone, most = _SIZES[data_coding]
    whole = b"".join(characters)
    if len(whole) <= alone:
        return [whole]
    bodies = [bytearray()]
    for character in characters:
        if len(bodies[-1]) + len(character) > most:
            bodies.append(bytearray())
        bodies[-1] += character
    if len(bodies) > _MOST_PARTS:
        raise ValueError(f"the text has more than {_MOST_PARTS} parts")
    header = bytes([5, 0, 3, reference, len(bodies)])
    return [header + bytes([place]) + body for place, body in enumerate(bodies, 1)]


def read(octets: bytes, data_coding: int, *, has_header: bool) -> str:
    """Return the text of a `short_message`; what cannot be read is replaced, not refused."""
    if has_header and octets:
        octets = octets[1 + octets[0] :]
    codec = _codec(data_coding)
    return octets.decode(codec, "replace") if codec else _gsm7(octets)


def _codec(data_coding: int) -> str:
    """Return Python's name of a coding; empty: GSM-7."""
    group, bits = data_coding >> 4, data_coding >> 2 & 3
    if group == 0:
        return _CODECS.get(data_coding, "ascii")
    # The others are data coding schemes of GSM (3GPP TS 23.038, 4).
    if group in {0x1, 0x4, 0x5}:
        return _CODECS_BY_BITS[bits]
    if group in {0xC, 0xD}:
        return ""
    if group == 0xE:
        return "utf-16-be"
    if group == 0xF:
        return "latin-1" if bits & 1 else ""
    return "ascii"  # compressed, or reserved


def _gsm7(octets: bytes) -> str:
    found, escaped = [], False
    for code in octets:
        if escaped:
            found.append(_EXTENDED.get(code, _BASIC[code & 0x7F]))
        elif code != _ESCAPE:
            found.append(_BASIC[code] if code < len(_BASIC) else "\ufffd")
        escaped = code == _ESCAPE and not escaped
    return "".join(found)
