"""Folders of rules, the product's and others, and what applies in them."""

from datetime import UTC, datetime
from pathlib import Path

from data.rules import Rules

FOLDER = Path(__file__).parents[2] / "data" / "rules"
BASE = FOLDER / "base.yaml"
STANDARD, STRICT = Rules(FOLDER), Rules(FOLDER, profile="strict")
KNOWN = (
    *("US", "PR", "VI", "GU", "AS", "MP", "CA", "GB", "FR", "AU", "NZ", "IN", "SG", "AE", "SA"),
    *("BR", "MX", "ZA", "NG", "KE", "JP", "CN", "PH", "TR"),
)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROW = """
  - id: "fr_hours"
    step: "sending_window"
    says: "No marketing at night in France."
    source: "https://example.org/operators"
    confidence: "high"
    countries: ["FR"]
    purposes: ["marketing"]
    windows:
      mon: [["10:00", "12:00"], ["22:00", "02:00"]]
"""


def folder(path: Path, base: str = "", **files: str) -> Rules:
    path.joinpath("base.yaml").write_text(base or BASE.read_text())
    for name, rows in files.items():
        path.joinpath(f"{name}.yaml").write_text("rules:" + rows)
    return Rules(path)


def company(path: Path, rows: str, profile: str = "standard") -> Rules:
    """The product's own rules and a company's file."""
    file = path / "company.yaml"
    file.write_text("rules:" + rows)
    return Rules(FOLDER, file, profile)


def applying(
    rules: Rules, step: str, country: str, *subdivisions: str, on: str = "", purpose: str = ""
) -> list[str]:
    at = datetime.fromisoformat(on).replace(tzinfo=UTC) if on else NOW
    found = rules.applying(step, purpose or "marketing", country, subdivisions, at=at)
    return [row.id for row in found]
