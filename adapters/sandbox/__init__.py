"""A local server that speaks a gateway's wire format, so that campaigns run on one machine.

An independent second implementation: nothing here is shared with `adapters.gateways`, so that a
mistake in an adapter shows against it. README.md says what it does and how to order faults.
"""
