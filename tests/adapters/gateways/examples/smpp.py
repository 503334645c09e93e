"""SMPP under the contract: no HTTP, so its wire is tested in test_smpp.py alone."""

from tests.adapters.gateways.example import Example

EXAMPLE = Example(
    settings={"host": "127.0.0.1", "system_id": "tester", "password": "pass-word"},
    secrets=("pass-word",),
)
