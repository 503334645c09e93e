"""Writes audience.csv, the sample audience: the same 3,000 records every time.

    uv run python data/samples/make_audience.py

Nobody in it exists. What is wrong with it on purpose, and how often, is in MESS and in README.md.
"""

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

RECORDS = 3_000
COLUMNS = [
    *("id", "first_name", "last_name", "mobile", "country", "timezone", "city"),
    *("marketing_opt_in", "opt_in_at", "plan"),
]
MESS = {
    "opted_out": 120,  # says no, in one way or another
    "no_consent": 60,  # says nothing
    "duplicate": 70,  # written differently
    "disagreeing": 20,  # a duplicate that says no, so that both records get nothing
    "landline": 40,
    "missing_phone": 35,
    "junk_phone": 25,  # no number at all
    "impossible_number": 20,
    "unknown_country": 15,
    "unknown_timezone": 10,
    "unclear_consent": 10,
    "ambiguous_date": 10,
    "unreadable_date": 5,
    "future_date": 3,
    "ragged": 8,
    "blank": 1,
}
"""Records that get no message, by what is wrong with them."""

# Places spread so that at any hour a third of those who may be written to are within their hours:
# country, city, zone, records, names, prefix of numbers reserved for fiction (where there is one).
PLACES = """
AS|Pago Pago|Pacific/Pago_Pago|38|english|
US|Honolulu|Pacific/Honolulu|91|english|+180855501
US|Anchorage|America/Anchorage|91|english|+190755501
US|Los Angeles|America/Los_Angeles|70|english|+121355501
US|San Francisco|America/Los_Angeles|70|spanish|+141555501
US|Seattle|America/Los_Angeles|70|english|+120655501
CA|Vancouver|America/Vancouver|21|english|+160455501
US|Denver|America/Denver|69|english|+130355501
US|Phoenix|America/Phoenix|69|spanish|+160255501
CA|Calgary|America/Edmonton|21|english|+140355501
US|Chicago|America/Chicago|42|english|+131255501
US|Houston|America/Chicago|42|spanish|+171355501
MX|Ciudad de México|America/Mexico_City|42|spanish|
US|New York|America/New_York|45|english|+121255501
US|Miami|America/New_York|45|spanish|+130555501
CA|Toronto|America/Toronto|22|french|+141655501
US|Atlanta|America/New_York|45|english|+140455501
CA|Halifax|America/Halifax|81|english|+190255501
CA|St. John's|America/St_Johns|65|english|+170955501
BR|São Paulo|America/Sao_Paulo|50|portuguese|
PT|Ponta Delgada|Atlantic/Azores|83|portuguese|
IE|Dublin|Europe/Dublin|40|english|
GB|London|Europe/London|82|english|
PT|Lisboa|Europe/Lisbon|44|portuguese|
IS|Reykjavík|Atlantic/Reykjavik|37|nordic|
DE|Berlin|Europe/Berlin|50|german|+4917139200
DE|München|Europe/Berlin|50|german|+49176040690
FR|Paris|Europe/Paris|35|french|
ES|Madrid|Europe/Madrid|53|spanish|
IT|Milano|Europe/Rome|23|italian|
SE|Göteborg|Europe/Stockholm|14|nordic|
PL|Kraków|Europe/Warsaw|14|polish|
AT|Wien|Europe/Vienna|40|german|
NL|Amsterdam|Europe/Amsterdam|40|english|
NG|Lagos|Africa/Lagos|64|english|
ZA|Cape Town|Africa/Johannesburg|36|english|
FI|Helsinki|Europe/Helsinki|50|nordic|
BG|София|Europe/Sofia|50|cyrillic|
GR|Αθήνα|Europe/Athens|66|greek|
TR|İstanbul|Europe/Istanbul|36|turkish|
KE|Nairobi|Africa/Nairobi|64|english|
AE|دبي|Asia/Dubai|36|arabic|
IN|Mumbai|Asia/Kolkata|117|indian|
VN|Hà Nội|Asia/Ho_Chi_Minh|39|vietnamese|
SG|Singapore|Asia/Singapore|79|english|
AU|Perth|Australia/Perth|81|english|
PH|Manila|Asia/Manila|79|spanish|
JP|東京|Asia/Tokyo|78|japanese|
KR|서울|Asia/Seoul|35|korean|
AU|Brisbane|Australia/Brisbane|110|english|
AU|Sydney|Australia/Sydney|110|english|+61491570006 +61491570156 +61491570157 +61491570158
NZ|Auckland|Pacific/Auckland|145|english|
"""

NAMES = {
    "english": "Emma Liam Olivia Noah Ava Ethan Grace Mason Ruby Jack Chloe Amara Tane Leilani"
    "|Smith Johnson O'Brien Taylor Wilson Nguyen Patel Brown Okafor Walker Tuilagi",
    "spanish": "Sofía Mateo Valentina Santiago Lucía José Camila Andrés Martín Inés"
    "|García Rodríguez Muñoz López Núñez Pérez Gómez Ibáñez",
    "portuguese": "João Beatriz Tomás Inês Gonçalo Júlia Antônio Letícia"
    "|Silva Conceição Gonçalves Araújo Magalhães Simões",
    "french": "Léa Hugo Chloé François Zoé Raphaël Anaïs Gaël Noémie"
    "|Lefèvre Dubois Béranger Châtelain Moreau Gagné",
    "german": "Jürgen Käthe Lukas Sören Mia Björn Annika Jörg"
    "|Müller Weiß Schröder Böhm Groß Köhler",
    "italian": "Giulia Niccolò Chiara Matteo Noè Aurora|Rossi D'Angelo Esposito Però Ferrari",
    "nordic": "Åsa Øyvind Freyja Björk Søren Linnéa Aqqaluk|Lindström Jónsdóttir Sørensen Ågren",
    "polish": "Zofia Łukasz Małgorzata Paweł Żaneta|Wiśniewska Wójcik Kowalczyk Dąbrowski",
    "turkish": "Ayşe Mehmet Çağla Gökhan İrem|Yılmaz Şahin Öztürk Çelik",
    "greek": "Ελένη Γιώργος Αθηνά Νίκος|Παπαδοπούλου Γεωργίου Νικολαΐδης",
    "cyrillic": "Айгерим Нұрлан Наталья Дмитрий Алия|Иванова Сәрсенов Ким Петров",
    "arabic": "فاطمة محمد نور يوسف ليلى|حسن إبراهيم السيد منصور",
    "indian": "Aarav Priya Rahim Ananya Imran Diya Farhana Rohan"
    "|Sharma Khan Rahman Iyer Ahmed Chowdhury",
    "vietnamese": "Hương Đức Thảo Quỳnh Minh|Nguyễn Trần Phạm Đặng",
    "japanese": "陽菜 蓮 結衣 大翔 さくら|佐藤 鈴木 高橋 田中",
    "korean": "서연 민준 지우 하은|김 이 박 최",
}
YES = ["yes"] * 12 + ["Yes", "YES", "true", "1", "1", "ja", "oui", "y", "on"]
NO = ["no", "No", "false", "0", "nein", "unsubscribed"]
COUNTRY_NAMES = {"US": "United States", "DE": "Deutschland", "GB": "United Kingdom", "JP": "Japan"}
# Where an empty time zone does no harm: the number says enough.
ONE_ZONE = "US CA DE FR IT SE PL AT NL FI BG IN JP KR SG ZA NG KE AE VN PH"
FIXED_LINES = {"DE": "+493023125", "GB": "+44207946", "FR": "+3319900", "AU": "+6125550"}
SPOILT = {
    "opted_out": {"opt_in": NO},
    "no_consent": {"opt_in": [""], "opt_in_at": [""]},
    "missing_phone": {"mobile": ["", "", "  "]},
    "junk_phone": {"mobile": ["n/a", "ask Maria", "-", "12", "see notes", "unknown", "000"]},
    "impossible_number": {"mobile": ["+1212555", "+1 555 01", "+99912345678", "+490123456789012"]},
    "unknown_country": {"country": ["Atlantis", "ZZ", "Nowhere"]},
    "unknown_timezone": {"timezone": ["Mars/Olympus", "GMT plus two", "CET time"]},
    "unclear_consent": {"opt_in": ["maybe", "pending", "?", "double opt-in"]},
    "ambiguous_date": {"opt_in_at": ["03/04/2025", "05/06/2025", "01/09/2025"]},
    "unreadable_date": {"opt_in_at": ["last summer", "Q2", "at the fair"]},
    "future_date": {"opt_in_at": ["2099-01-01"]},
}
"""What stands in which column instead, by what is wrong."""

# The sandbox gateway has its own plans for numbers that end in these.
RESERVED_ENDINGS = ("1610", "1614", "3000", "3003", "3005", "3006", "3008")


@dataclass(frozen=True)
class Person:
    """One record as it will be written, column for column."""

    first_name: str
    last_name: str
    mobile: str
    country: str
    timezone: str
    city: str
    opt_in: str
    opt_in_at: str
    plan: str


class Numbers:
    """Hands out every number once, valid to the phonenumbers library."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pools: dict[str, Iterator[str]] = {}

    def mobile(self, country: str, prefixes: str) -> str:
        example = phonenumbers.example_number_for_type(country, PhoneNumberType.MOBILE)
        return self._next(country, example, prefixes)

    def fixed_line(self, country: str) -> str:
        example = phonenumbers.example_number_for_type(country, PhoneNumberType.FIXED_LINE)
        return self._next(country, example, FIXED_LINES[country])

    def _next(self, country: str, example: phonenumbers.PhoneNumber | None, prefixes: str) -> str:
        if example is None:
            raise ValueError(f"the library has no example for {country}")
        written = phonenumbers.format_number(example, PhoneNumberFormat.E164)
        # Where none are reserved, or no more: the library's example with its last digits changed.
        for key in filter(None, (prefixes, written[:-4])):
            if key not in self._pools:
                self._pools[key] = self._pool(country, key, len(written))
            if number := next(self._pools[key], None):
                return number
        raise LookupError(f"no more numbers of {country}: lower its places' records")

    def _pool(self, country: str, prefixes: str, length: int) -> Iterator[str]:
        numbers = [number for prefix in prefixes.split() for number in _filled(prefix, length)]
        self._rng.shuffle(numbers)
        for number in numbers:
            if _is_fit(number, country):
                yield number


def _filled(prefix: str, length: int) -> list[str]:
    # German numbers differ in length: those for fiction take two digits more than their prefix.
    digits = 2 if prefix.startswith("+491") else length - len(prefix)
    return [f"{prefix}{n:0{digits}}" if digits else prefix for n in range(10**digits)]


def _is_fit(number: str, country: str) -> bool:
    parsed = phonenumbers.parse(number)
    return phonenumbers.is_valid_number_for_region(parsed, country) and not number.endswith(
        RESERVED_ENDINGS
    )


def person(rng: random.Random, numbers: Numbers, place: list[str]) -> Person:
    """Make up somebody who may be sent the message."""
    country, city, zone, _, language, prefixes = place
    first, last = (rng.choice(names.split()) for names in NAMES[language].split("|"))
    chance = rng.random()
    if chance < 0.03:
        first = ""
    elif chance < 0.05:
        first += rng.choice([" 🌸", " 😀", " ⭐", " 🇧🇷"])
    return Person(
        first_name=first,
        last_name=last,
        mobile=_written(rng, numbers.mobile(country, prefixes)),
        country=COUNTRY_NAMES.get(country, country) if rng.random() < 0.08 else country,
        timezone="" if country in ONE_ZONE.split() and rng.random() < 0.2 else zone,
        city=city if rng.random() < 0.97 else "",
        opt_in=rng.choice(YES),
        opt_in_at=_date(rng),
        plan=rng.choice(["free", "free", "plus", "gold"]),
    )


def _date(rng: random.Random) -> str:
    day = f"2025-{rng.randint(1, 9):02}-{rng.randint(1, 28):02}"
    return rng.choice([day, day, f"{day}T{rng.randint(8, 20):02}:{rng.randint(0, 59):02}:00Z"])


def _written(rng: random.Random, number: str, style: str = "") -> str:
    """Write a number as people do."""
    parsed = phonenumbers.parse(number)
    styles = ["e164"] * 13 + ["national", "international", "national", "padded", "dots"]
    match style or rng.choice(styles):
        case "national":
            return phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL)
        case "international":
            return phonenumbers.format_number(parsed, PhoneNumberFormat.INTERNATIONAL)
        case "padded":
            return f"  {number} "
        case "dots":
            spaced = phonenumbers.format_number(parsed, PhoneNumberFormat.INTERNATIONAL)
            return spaced.replace(" ", ".").replace("-", ".")
    return number


def spoilt(rng: random.Random, numbers: Numbers, what: str, good: Person) -> Person:
    """Make a good record a bad one in one way of MESS."""
    if what != "landline":
        return replace(good, **{name: rng.choice(few) for name, few in SPOILT[what].items()})
    country = rng.choice(sorted(FIXED_LINES))
    place = next(place for place in _places() if place[0] == country)
    return replace(
        good,
        mobile=numbers.fixed_line(country),
        country=country,
        city=place[1],
        timezone=place[2],
    )


def _places() -> list[list[str]]:
    return [line.split("|") for line in PLACES.strip().splitlines()]


def audience(rng: random.Random) -> list[Person]:
    """Every record that can be read, repetitions after what they repeat."""
    numbers = Numbers(rng)
    places = [line.split("|") for line in PLACES.strip().splitlines()]
    # One repetition takes the place of one record; a disagreeing one spoils the record too.
    spoiling = [
        what for what in MESS if what not in ("duplicate", "disagreeing", "ragged", "blank")
    ]
    repetitions = MESS["duplicate"] + MESS["disagreeing"]
    originals = RECORDS - repetitions - MESS["ragged"] - MESS["blank"]
    shares = [int(place[3]) for place in places]
    # Exact shares, not drawn ones: a small place must not come to more than its reserved numbers.
    wanted = [place for place, share in zip(places, shares, strict=True) for _ in range(share)]
    rng.shuffle(wanted)
    people = [person(rng, numbers, place) for place in wanted[:originals]]
    at = 0
    for what in spoiling:
        for _ in range(MESS[what]):
            people[at] = spoilt(rng, numbers, what, people[at])
            at += 1
    good = list(range(at, len(people)))
    order = list(range(len(people)))
    rng.shuffle(order)
    places_of = {index: position for position, index in enumerate(order)}
    records = [people[index] for index in order]
    repeated = rng.sample(good, repetitions)
    inserts = []
    for number, index in enumerate(repeated):
        twin = people[index]
        written = _written(rng, _e164(twin), rng.choice(["e164", "international", "dots"]))
        said = "no" if number < MESS["disagreeing"] else twin.opt_in
        inserts.append(
            (
                rng.randint(places_of[index] + 1, len(records)),
                replace(twin, mobile=written, opt_in=said),
            )
        )
    for position, twin in sorted(inserts, key=lambda insert: insert[0], reverse=True):
        records.insert(position, twin)
    return records


def _e164(twin: Person) -> str:
    country = {name: code for code, name in COUNTRY_NAMES.items()}.get(twin.country, twin.country)
    parsed = phonenumbers.parse(twin.mobile, country)
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164)


def lines(rng: random.Random, people: list[Person]) -> list[str]:
    """Return the file's lines, the ragged and the blank ones among them."""
    written = [
        _line([f"C-{number:04}", *vars(each).values()]) for number, each in enumerate(people, 1)
    ]
    for number in range(MESS["ragged"]):
        cells = [f"R-{number:04}", "Cut", "Off"] if number % 2 else ["R-0000", *"abcdefghijkl"]
        written.insert(rng.randint(1, len(written)), _line(cells))
    for _ in range(MESS["blank"]):
        written.insert(rng.randint(1, len(written) - 1), "")
    return [_line(COLUMNS), *written]


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def text() -> str:
    """Return the file."""
    rng = random.Random(20260401)  # noqa: S311 - nothing secret
    return "\n".join(lines(rng, audience(rng))) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("audience.csv").write_text(text(), encoding="utf-8")
