"""What a message says of its own purpose, and how to opt out of it.

Here: promotional content, which makes a message marketing whatever it was called, and whether a
text tells people how to opt out. Not here: what a purpose needs (data/rules), and judging
recipients (tasks.consent).
"""

import re
import unicodedata
from collections.abc import Collection

from jinja2 import nodes

from tasks.message_language import TemplateError, parse

PROMOTIONAL = "promotional"
"""The kind of content that says so itself."""

PROMOTIONS = {PROMOTIONAL, "promotion", "promo", "marketing", "advertising", "advertisement", "ad"}
PROMOTIONS |= {"discount", "offer", "sale", "coupon", "upsell", "cross_sell"}
"""Names of the same; their plurals are too."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
"""Letters of the scripts that do not part words, for a class of a regular expression."""

SERVICE = ("transactional", "alert", "otp")
"""The purposes that promotional content raises."""

_MOST_WORDS = 3

# Texts are compared without case and accents (`_plain`). A word that also has a plain meaning
# stands with what takes it away: a sale that is yours, a solde that is a balance, a job offer.
_PROMOTION = re.compile(
    r"""
    \d[\d.,]*\s?%\s?off\b
    | [$€£¥₹]\s?\d[\d.,]*\s?off\b
    | \b\d[\d.,]*\s?(?:€|usd|eur|gbp|cad|aud|dollars?|euros?|pounds?|quid)\s?off\b
    | \bsave\s(?:up\sto\s)?(?:[$€£¥₹]\s?\d|\d[\d.,]*\s?%)
    | (?<![\w%])[-−–]\s?\d{1,2}\s?%\s?(?:auf|sur|en|su|sui|op|em|on|di|de|na)\b
    | \d[\d.,]*\s?%\s?(?:rabatt|reduziert|gunstiger|de\s(?:remise|rabais)|di\s(?:sconto|riduzione))
    | (?<!\bof\s)(?<!\byour\s)(?<!\bthis\s)(?<!\bafter\s)(?<!\bafter-)\bsale\b
        (?!\s(?:of|to|agreement|contract|deed|number|no\b|id\b|is\s(?:complete|confirmed|final)))
    | \b(?:spring|summer|autumn|fall|winter|flash|clearance|friday)\ssales?\b
    | \bdiscount(?:s|ed)?\b
    | \bcoupons?\b
    | \bpromo(?:tion(?:al)?)?\s(?:codes?|offers?|prices?|ends)\b | \bpromo(?:s|codes?)?\b
    | (?<!\bgreat\s)(?<!\bbig\s)(?<!\byour\s)(?<!\bto\s)\bdeals?\b
        (?!\s(?:with|is\s(?:closed|won|lost)|number|id\b))
    | (?<!\bjob\s)(?<!\bwe\s)(?<!\bto\s)(?<!\bcan\s)(?<!\bthey\s)(?<!\bwork\s)(?<!\bloan\s)
        \boffers?\b(?!\s(?:letters?|of\s(?:employment|admission|a\splace)|you\b|from\sthe\s(?:seller|buyer)))
    | \bfree\s(?:gifts?|shipping|delivery|samples?|trial)\b
    | \b(?:buy|shop|order|book)\snow\b
    | \bbuy\s(?:one|1|two|2),?\sget\b | \bbogo\b | \b2\s(?:for|4)\s1\b
    | \blimited[\s-]time\b | \bwhile\s(?:stocks?|supplies)\slast\b | \bblack\sfriday\b
    | \bcyber\smonday\b
    # German, Dutch, the North
    | \w*rabatt(?:e|en|s|code\w*|aktion\w*)?\b | \w*angebote?n?\b | \bgutscheincodes?\b
    | \b(?:sommer|winter)?schlussverkauf\b | \bjetzt\s(?:kaufen|bestellen|shoppen|zugreifen)\b
    | \b\w*korting(?:en|scode)?\b | \baanbieding(?:en)?\b | \buitverkoop\b
    | \b(?:koop|bestel|shop)\snu\b | \bsuperpris\w*\b | \btilbud\b | \berbjudande\w*\b
    # French, Spanish, Portuguese, Italian, Romanian
    | (?<!\bvos\s)(?<!\bdes\s)\bsoldes\b(?!\s(?:de\s(?:vos|votre|tout\scompte)|bancaires))
    | \b(?:nos|notre|vente|ventes)\spromotions?\b | \bpromotions?\s(?:sur|exceptionnelles?)\b
    | \breductions?\b | \boffres?\s(?:speciale|exclusive|exceptionnelle|du\s
        (?:jour|moment)|flash|limitee|valable)\w*\b | \b(?:notre|nos)\soffres?\b
    | \bachetez\b | \bventes?\s(?:flash|privees?)\b
    | \bofertas?\b(?!\s(?:de\s(?:empleo|trabajo|emprego|trabalho)))
    | \bdescuentos?\b | \brebajas?\b | \bpromocion(?:es)?\b | \bcupon(?:es)?\b
    | \bcompra(?:r|los?|las?)?\s(?:ahora|ya)\b
    | \bdescontos?\b | \bpromocao\b | \bpromocoes\b | \bcupom\b | \bcompre\s(?:agora|ja)\b
    | \bscont[oi]\b | \bscontat[oiae]\b | \bsaldi\b | \bofferte?\b(?!\sdi\slavoro)
    | \bpromozion[ei]\b | \bacquista\s(?:ora|subito)\b | \breduceri?\b
    # Polish, Turkish, Russian, Arabic, Chinese, Japanese, Korean
    | \bznizk\w*\b | \bprzecen\w*\b | \bpromocj\w*\b | \bwyprzedaz\w*\b | \bindirim\w*\b
    | \bkampanya\w*\b | скидк\w* | распродаж\w* | خصم | تخفيضات | 优惠 | 折扣 | 促销 | 割引 | セール
    | 할인
    """,
    re.VERBOSE,
)

# Words that people are told to answer with. A message is taken to say how only where one stands in
# capitals, in quotes, behind a word for answering, or before what it does: "stop by" says nothing.
_KEYWORDS = (
    "stop|stopp|stopall|unsubscribe|cancel|end|quit|optout|opt-out|arret|desabonner|desinscrire"
    "|abmelden|abbestellen|parar|baja|alto|cancelar|detener|sair|basta|annulla|cancellami"
    "|disiscrivi|afmelden|uitschrijven|rezygnuje|ret|iptal|dur|td|退订|停止|配信停止|توقف|الغاء|הסר|стоп|रोकें"
)
_TOLD = re.compile(
    rf"""
    \b(?:reply|replying|respond|text|txt|send|sms|type|answer|repondez|repondre|envoyez|envoyer
        |par|antworte\w*|antwort|sende\w*|schick\w*|mit|responda|responde|responder|envia|envie
        |enviar|rispondi|invia|scrivi|antwoord|stuur|svara|svar|skicka|wyslij|odpisz|odpowiedz
        |ответьте|отправьте)\s(?:with\s|by\s|back\s|mit\s|con\s|com\s|met\s|med\s|par\s|the\sword\s
        |el\s|a\s)?["'“”«»„]?\s?(?:{_KEYWORDS})(?!\w)
    | ["'“”«»„](?:{_KEYWORDS})["'“”«»„]
    | (?<!\w)(?:{_KEYWORDS})\s?(?:[=:]|2(?:\s?end|\s?quit|\s?stop))
    | (?<!\w)stop\s(?:to\s(?:end|opt|stop|quit|cancel|unsub\w*)|(?:au\s|an\s|to\s)?\d{{4,}})
    | 回[复覆]\s?["“”「]?(?:{_KEYWORDS})(?![^\W{UNSPACED}])
    | \bopt[\s-]?out\b | \bunsub(?:scribe)?\b | \babmelden\b | \babbestellen\b | \bdesabonn\w+
    | \bdesinscri\w+ | \b(?:darse|darte|dar)\sde\sbaja\b | \bcancelar\s(?:a\s)?(?:su)?(?:in)?scri\w+
    | \bdisiscri\w+ | \bafmelden\b | \buitschrijven\b | 退订 | 配信停止
    """,
    re.VERBOSE,
)
_SHOUTED = re.compile(rf"(?<![^\W{UNSPACED}])(?:{_KEYWORDS.upper()})(?![^\W{UNSPACED}])")


def raised(purpose: str, message: str, content: Collection[str] = ()) -> tuple[str, str]:
    """Return the purpose that a message has, and why it is not the given one (else empty).

    `message` is a template; `content` holds the kinds of content that its author named. Promotional
    content makes `transactional`, `alert` and `otp` marketing. Nothing ever lowers a purpose.
    That any of it makes the whole message marketing is written into India's regulations (TCCCPR
    2018, second amendment of February 2025), and is the careful reading of the others.
    """
    if purpose not in SERVICE:
        return purpose, ""
    if any(is_promotional(kind) for kind in content):
        return "marketing", "its content is named promotional"
    found = list(dict.fromkeys(_promotional_words(message)))
    if not found:
        return purpose, ""
    named = ", ".join(f"“{words}”" for words in found[:_MOST_WORDS])
    return "marketing", f"promotional content: {named}"


def kind_of_content(given: object) -> str:
    """Return the name of a kind of content as the rules write it."""
    return re.sub(r"[\s-]+", "_", str(given).strip().lower())


def is_promotional(kind: str) -> bool:
    """Whether a kind of content makes a message marketing."""
    name = kind_of_content(kind)
    return name in PROMOTIONS or name.removesuffix("s") in PROMOTIONS


def with_opt_out(message: str, opt_out_text: str) -> str:
    """Return the message with the text behind it, where it does not say how to opt out itself."""
    told = opt_out_text.strip()
    if not told or message.endswith(told) or says_how_to_opt_out(message):
        return message
    return f"{message.rstrip()} {told}"


def says_how_to_opt_out(message: str) -> bool:
    """Whether a message (a template) tells people how to opt out of further ones."""
    text = _written(message)
    # In a text that shouts all the time capitals say nothing.
    if not text.isupper() and _SHOUTED.search(_without_accents(text)):
        return True
    return bool(_TOLD.search(_plain(text)))


def _promotional_words(message: str) -> list[str]:
    plain = _plain(" ".join(_written(message).split()))
    shown = " ".join(_written(message, "…").split())
    # Letters such as ß become two; the words are then shown as they were compared.
    shown = shown if len(shown) == len(plain) else plain
    return [shown[found.start() : found.end()].strip() for found in _PROMOTION.finditer(plain)]


def _written(message: str, filled_in: str = "0") -> str:
    """What a template says itself, with one character for each part that the audience fills in."""
    try:
        tree = parse(message)
    except TemplateError:
        return message  # refused where the message is read; here nothing may be overlooked
    return "".join(_said(node, filled_in) for node in tree.body)


def _said(node: nodes.Node, filled_in: str) -> str:
    if isinstance(node, nodes.TemplateData):
        return node.data
    if isinstance(node, nodes.Output):
        return "".join(_said(each, filled_in) for each in node.nodes)
    texts = [each.data for each in node.find_all(nodes.TemplateData)]
    texts += [each.value for each in node.find_all(nodes.Const) if isinstance(each.value, str)]
    return " ".join(texts) if texts else filled_in


def _without_accents(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", _without_accents(text)).casefold()
