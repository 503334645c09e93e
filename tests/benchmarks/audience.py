"""A messy audience of any size, the same every time: countries, ways of writing, junk, repetitions.

About nine of ten records can be sent to. The numbers are made up from the numbering plans.
"""

import csv
import random
from collections.abc import Iterator
from pathlib import Path

COLUMNS = [
    *("id", "first_name", "last_name", "mobile", "country", "timezone", "city"),
    *("marketing_opt_in", "opt_in_at", "plan"),
]
# Country, weight, calling code, trunk prefix (- for none), forms of a mobile number.
PLANS = """
US 36 1 - 202xxxxxxx 212xxxxxxx 312xxxxxxx 415xxxxxxx 512xxxxxxx 617xxxxxxx 713xxxxxxx 808xxxxxxx
CA 5 1 - 416xxxxxxx 604xxxxxxx 514xxxxxxx
GB 12 44 0 74xxxxxxxx 75xxxxxxxx 78xxxxxxxx 79xxxxxxxx
DE 9 49 0 151xxxxxxxx 160xxxxxxx 171xxxxxxx
FR 6 33 0 6xxxxxxxx
ES 4 34 - 6xxxxxxxx
IT 4 39 - 34xxxxxxxx 33xxxxxxxx
NL 2 31 0 61xxxxxxx 62xxxxxxx
SE 2 46 0 70xxxxxxx 73xxxxxxx
PL 2 48 - 60xxxxxxx 50xxxxxxx
TR 1 90 0 532xxxxxxx
BR 4 55 - 119xxxxxxxx
MX 3 52 - 55xxxxxxxx
IN 3 91 0 98xxxxxxxx 99xxxxxxxx
AU 2 61 0 41xxxxxxx 42xxxxxxx
JP 1 81 0 90xxxxxxxx
ZA 1 27 0 82xxxxxxx
NG 1 234 0 803xxxxxxx
PH 1 63 0 917xxxxxxx
ID 1 62 0 812xxxxxxxx
"""
WAYS = ["e164"] * 11 + ["spaced", "spaced", "national", "national", "dashes", "brackets", "padded"]
FIRST = [
    *("Emma", "Liam", "Olivia", "Noah", "Ava", "Sofía", "José", "Jürgen"),
    *("Zoé", "Łukasz", "Ayşe", "陽菜", "Priya", "Björk", "O'Neil"),
]
LAST = [
    *("Smith", "García", "Müller", "Lefèvre", "Rossi", "Nguyễn"),
    *("Yılmaz", "佐藤", "Patel", "Kowalczyk", "Silva", "Brown"),
]
CITIES = ["London", "Berlin", "São Paulo", "Washington, DC", 'The "Hague"', "Köln", "New York", ""]
ZONES = {"GB": "Europe/London", "DE": "Europe/Berlin", "FR": "Europe/Paris", "JP": "Asia/Tokyo"}
JUNK = ["", "", "n/a", "ask Maria", "12", "+1212555", "+99912345678", "000", "see notes"]
YES = ["yes"] * 9 + ["Yes", "true", "1", "ja", "y"]


def write(path: Path, rows: int, seed: int = 20261124) -> Path:
    """Write so many records, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(records(rows, seed))
    return path


def records(rows: int, seed: int = 20261124) -> Iterator[list[str]]:
    """Yield so many records, cell by cell as `COLUMNS`; one in a thousand is ragged."""
    rng = random.Random(seed)
    plans = [line.split() for line in PLANS.strip().splitlines()]
    weights = [int(plan[1]) for plan in plans]
    earlier: list[tuple[list[str], str]] = []
    for number in range(1, rows + 1):
        chance = rng.random()
        if chance < 0.02 and earlier:
            plan, digits = rng.choice(earlier)
        else:
            (plan,) = rng.choices(plans, weights)
            digits = _digits(rng, rng.choice(plan[4:]))
            earlier.append((plan, digits))
        record = _record(rng, number, plan, _written(rng, plan, digits))
        if 0.02 <= chance < 0.05:
            record[3] = rng.choice(JUNK)
        elif chance < 0.06:
            record[4] = rng.choice(["Atlantis", "ZZ", "Nowhere"])
        elif chance < 0.065:
            record[5] = "Mars/Olympus"
        elif chance < 0.09:
            record[7] = rng.choice(["no", "", "maybe", "unsubscribed"])
        yield record[:5] if chance > 0.999 else record


def _digits(rng: random.Random, form: str) -> str:
    fixed = form.rstrip("x")
    size = len(form) - len(fixed)
    return f"{fixed}{rng.randint(2 * 10 ** (size - 1), 10**size - 1)}"


def _written(rng: random.Random, plan: list[str], digits: str) -> str:
    """Write a number as people do."""
    code, trunk = plan[2], plan[3].strip("-")
    groups = digits[:-7], digits[-7:-4], digits[-4:]
    match rng.choice(WAYS):
        case "spaced":
            return f"+{code} {' '.join(groups)}"
        case "national":
            return trunk + digits
        case "dashes":
            return trunk + "-".join(groups)
        case "brackets":
            return f"({trunk}{groups[0]}) {groups[1]}-{groups[2]}"
        case "padded":
            return f"  +{code}{digits} "
    return f"+{code}{digits}"


def _record(rng: random.Random, number: int, plan: list[str], mobile: str) -> list[str]:
    country = plan[0]
    first = "" if rng.random() < 0.03 else rng.choice(FIRST)
    day = f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return [
        f"C-{number:07}",
        f"{first} 🌸" if rng.random() < 0.02 else first,
        rng.choice(LAST),
        mobile,
        country.lower() if rng.random() < 0.05 else country,
        ZONES.get(country, "") if rng.random() < 0.5 else "",
        rng.choice(CITIES),
        rng.choice(YES),
        f"{day}T{rng.randint(8, 20):02}:00:00Z" if rng.random() < 0.3 else day,
        rng.choice(["free", "plus", "gold"]),
    ]
