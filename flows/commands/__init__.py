"""The commands of `sms`, one module a subject. `flows.cli` puts them together."""
