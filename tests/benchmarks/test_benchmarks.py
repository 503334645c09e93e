"""The benchmarks still run. How fast they are is nobody's business here."""

import pytest

from tests.benchmarks import consent, gateways, phones, prepare, receive, reconcile, send
from tests.benchmarks.bench import Report, table


def sizes(benchmark: str) -> Report:
    match benchmark:
        case "prepare":
            return prepare.run(rows=300, sample=100)
        case "send":
            return send.run(messages=600, sample=60)
        case "gateways":
            return gateways.run(messages=300)
        case "receive":
            return receive.run(reports=300, sample=200)
        case "reconcile":
            return reconcile.run(reports=500, sample=50)
        case "consent":
            return consent.run(rows=2_000, sample=50)
    return phones.run(rows=500, sample=200)


@pytest.mark.parametrize(
    "benchmark", ["prepare", "send", "gateways", "receive", "reconcile", "phones", "consent"]
)
def test_a_benchmark_measures_ours_and_the_plain_alternative(benchmark: str) -> None:
    report = sizes(benchmark)
    assert all(figure.rate > 0 for figure in (report.ours, *report.plain))
    assert table([report]).row_count == 1 + len(report.plain)
