"""Written numbers to E.164, validity, line type and region: a column, beside one by one."""

import pandas as pd
import phonenumbers

from tasks import phones
from tests.benchmarks import audience
from tests.benchmarks.bench import Figure, Report, timed


def run(rows: int = 100_000, sample: int = 5_000) -> Report:
    """Measure `tasks.phones.normalise` on a mixed column."""
    people = [record for record in audience.records(rows) if len(record) > 5]
    numbers = pd.Series([record[3] for record in people], dtype="str")
    countries = pd.Series([record[4] for record in people], dtype="str")
    with timed() as first_use:
        phones.normalise(numbers[:1], countries[:1])
    with timed() as ours:
        found = phones.normalise(numbers, countries)
    some = list(zip(numbers[:sample], countries[:sample], strict=True))
    with timed() as plain:
        expected = [_one(*each) for each in some]
    assert found["valid"][:sample].tolist() == [valid for valid, _ in expected]
    assert found["e164"][:sample].fillna("").tolist() == [e164 for _, e164 in expected]
    return Report(
        "phones",
        "numbers",
        0,
        Figure("tasks.phones.normalise", len(people), ours),
        [Figure("phonenumbers, one by one", len(some), plain)],
        [f"left out: compiling the numbering plans, {first_use.seconds:.1f} s once a process"],
    )


def _one(text: str, country: str) -> tuple[bool, str]:
    try:
        number = phonenumbers.parse(text, country.upper())
    except phonenumbers.NumberParseException:
        return False, ""
    valid = phonenumbers.is_valid_number(number)
    phonenumbers.number_type(number)
    phonenumbers.region_code_for_number(number)
    return valid, phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
