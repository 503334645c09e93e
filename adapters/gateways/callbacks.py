"""Reading callbacks: forms, queries and signatures, for every gateway that signs or sends a form.

Which fields there are and what is signed is in each adapter's file.
"""

import base64
import hmac
import re
from urllib.parse import parse_qs, urlsplit

from adapters.gateways.base import Callback, CallbackError

_MOST_FIELDS = 200
_TOKEN = re.compile("(?:^|(?<=&))token=[^&]*&?")
_STANDARD_PORTS = {"http": 80, "https": 443}


def form(callback: Callback) -> dict[str, list[str]]:
    """Return the values of each field of a form, empty ones too. Raises `CallbackError`."""
    try:
        return parse_qs(
            callback.body.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise CallbackError("a callback is no form: is its address the right one?") from None


def octets(pairs: str) -> dict[str, bytes]:
    """Return the first value of each field of a query or form, of whatever character set.

    For gateways that pass on replies as they came. Raises `CallbackError`.
    """
    try:
        found = parse_qs(
            pairs, keep_blank_values=True, encoding="latin-1", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise CallbackError("a callback has too many fields") from None
    return {name: given[0].encode("latin-1", "replace") for name, given in found.items()}


def query(callback: Callback, name: str) -> str | None:
    """Return a value of the address called; ours is `ref`, the message id."""
    return parameter(callback.url, name)


def parameter(url: str, name: str) -> str | None:
    """Return the first value of this name in the query of an address."""
    return parse_qs(urlsplit(url).query).get(name, [None])[0]


def with_token(url: str, secret: str) -> str:
    """Add a token to a callback address, for gateways that sign nothing.

    It is a keyed digest of the address' own query, so that one address that leaked is good for one
    message's reports only.
    """
    return f"{url}{'&' if '?' in url else '?'}token={_token(url, secret)}"


def has_token(callback: Callback, secret: str) -> bool:
    """Whether a callback came to an address that `with_token` made.

    Parameters that the gateway appends after the token are not looked at.
    """
    url, found, rest = callback.url.partition("token=")
    if not found or url[-1] not in "?&":
        return False
    return same(re.split("[&#]", rest, maxsplit=1)[0], _token(url[:-1], secret))


def without_token(query: str) -> str:
    """Take the token out of a query that is to be kept."""
    return _TOKEN.sub("", query).strip("&")


def _token(url: str, secret: str) -> str:
    # Not the host: gateways are told the public address, and proxies change it.
    parts = urlsplit(url)
    named = f"{parts.path}?{parts.query}"
    return hmac.digest(secret.encode(), named.encode(), "sha256").hex()[:32]


def addresses(callback: Callback) -> list[str]:
    """Return the address with and without its port: gateways sign either."""
    parts = urlsplit(callback.url)
    bare = re.sub(r":\d*$", "", parts.netloc)
    hosts = {parts.netloc, bare}
    if parts.netloc == bare and parts.scheme in _STANDARD_PORTS:
        hosts.add(f"{bare}:{_STANDARD_PORTS[parts.scheme]}")
    return [callback.url.replace(f"//{parts.netloc}", f"//{host}", 1) for host in hosts]


def hmac_base64(key: str, signed: str, digest: str) -> str:
    """Return the HMAC of a text in base64."""
    return base64.b64encode(hmac.digest(key.encode(), signed.encode(), digest)).decode()


def same(given: str, computed: str) -> bool:
    """Compare signatures in constant time, whatever characters came in."""
    return hmac.compare_digest(given.encode(), computed.encode())
