"""Plivo under contract."""

from dataclasses import replace

from plivo.utils.signature_v3 import construct_post_url, get_signature_v3

from adapters.gateways.base import Callback
from tests.adapters.gateways.example import ADDRESSES, SUBMISSION, Example, numbers
from tests.adapters.gateways.wire import Request, Respond

TOKEN = "the-secret"
NONCE = "05429567804466091622"
FORM = {"MessageUUID": "uuid-1", "Status": "delivered", "To": "12125550101"}


def _accept(request: Request) -> Respond:
    uuids = [f"uuid-{number}" for number in numbers(request)]
    return Respond(202, {"message": "message(s) queued", "message_uuid": uuids})


def _refuse(request: Request, number: str) -> Respond:
    taken = [one for one in numbers(request) if one != number]
    if not taken:
        return Respond(400, {"error": f"{number} is not a valid phone number"})
    uuids = [f"uuid-{one}" for one in taken]
    return Respond(202, {"message_uuid": uuids, "invalid_number": [number]})


def _sign(callback: Callback) -> Callback:
    base = construct_post_url(callback.url, FORM).decode()
    signature = get_signature_v3(TOKEN, base, NONCE).decode()
    headers = {"x-plivo-signature-v3": signature, "x-plivo-signature-v3-nonce": NONCE}
    return replace(callback, headers={**callback.headers, **headers})


EXAMPLE = Example(
    settings={"auth_id": "MA" + "0" * 18, "auth_token": TOKEN},
    secrets=(TOKEN,),
    accept=_accept,
    refuse=_refuse,
    own_ids=False,
    report=Callback(
        "POST",
        ADDRESSES.reports_of(SUBMISSION),
        {"content-type": "application/x-www-form-urlencoded"},
        b"MessageUUID=uuid-1&Status=delivered&To=12125550101",
    ),
    sign=_sign,
)
