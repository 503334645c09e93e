"""Prefect blocks: the gateways and audience connections that an operator sets up by name.

Each is one block type around a union of settings told apart by `kind`: that alone lets a form list
the existing ones, `load("main")` find any of them, and every secret be masked. A Prefect module.
"""

from http import HTTPStatus
from typing import Annotated, Any

from prefect.blocks.core import Block
from pydantic import Field

from adapters.gateways import Settings as GatewaySettings
from adapters.sources import HttpConnection, SqlConnection
from data.errors import SmsError


class BlockError(SmsError):
    """A block does not exist or cannot be read."""


class SmsGateway(Block):
    """An SMS gateway with its credentials. `sms gateway add` makes one."""

    _block_type_name = "SMS gateway"
    _block_type_slug = "sms-gateway"

    settings: GatewaySettings = Field(description="Which gateway, and its credentials")


class SmsSource(Block):
    """A database query or a web API that audiences come from. `sms source add` makes one."""

    _block_type_name = "SMS audience source"
    _block_type_slug = "sms-source"

    settings: Annotated[SqlConnection | HttpConnection, Field(discriminator="kind")] = Field(
        description="Where the audience is"
    )


def load(block: type[Any], name: str) -> Any:
    """Load a block by name. Raises `BlockError` that names the ones there are."""
    try:
        return block.load(name)
    except ValueError as error:
        if "Unable to find block document" not in str(error):
            raise
        there = ", ".join(sorted(names(block))) or "none yet"
        command = "sms gateway add" if block is SmsGateway else "sms source add"
        what = "gateway" if block is SmsGateway else "audience source"
        raise BlockError(
            f"there is no {what} “{name}” (there is: {there}): add it by `{command} {name} …`"
        ) from None


def names(block: type[Any]) -> list[str]:
    """The names of the documents of one block type."""
    return [name for name, _ in documents(block)]


def documents(block: type[Any]) -> list[tuple[str, Any]]:
    """Every document of one block type, by name."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_documents_by_type(
                block_type_slug=block.get_block_type_slug(), include_secrets=True
            )
        except PrefectHTTPStatusError as error:
            # The type itself is registered with its first document.
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return []
    return [
        (document.name, block._from_block_document(document))
        for document in found
        if document.name is not None
    ]
