"""The settings of the installation, from `SMS_…` variables and `.env`, and the keys beside them.

What belongs to one gateway is in its block, and what belongs to one campaign in its parameters.
"""

import os
import secrets
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from data.errors import SmsError

PROJECT = Path(__file__).resolve().parent.parent


class SettingsError(SmsError):
    """A setting that cannot be meant."""


class Settings(BaseSettings):
    """Read once a process; see `settings()`."""

    model_config = SettingsConfigDict(env_prefix="SMS_", env_file=".env", extra="ignore")

    home: Path = Field(Path(".sms"), description="Folder for the database, keys and run files")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite inside `home`")
    public_url: str = Field("", description="Where gateways reach the receiver, without a path")
    receiver_port: int = 8780
    sandbox_port: int = 8790
    prefect_port: int = 4200
    ui_login: SecretStr | None = Field(
        None, description="`name:password` that Prefect's UI and API ask for; empty: no login"
    )
    audience_folders: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description="Folders that audience files may be read from, separated as in PATH;"
        " default: `data/samples` and `audiences` inside `home`",
    )
    prices: Path | None = Field(None, description="CSV price table instead of the built-in one")
    rules: Path | None = Field(
        None, description="The company's own consent rules: a YAML file, or a folder of them"
    )
    rules_profile: Literal["standard", "strict"] = Field(
        "standard", description="strict: also the rules that careful companies keep"
    )
    brand: str = Field("", description="Who you are, in answers to STOP and HELP")
    help_contact: str = Field(
        "", description="Where people find help, in the answer to HELP: a number, address or page"
    )
    secret_key: SecretStr | None = Field(
        None, description="Key for message ids and number fingerprints; default: a file in `home`"
    )
    lease_seconds: float = Field(60, description="How long a claimed window belongs to its sender")
    request_timeout: float = Field(10, description="Seconds for one request to a gateway")
    batch_size: int = Field(500, ge=1, description="Messages in one batch, a Prefect task")
    batches_in_flight: int = Field(4, ge=1, description="Batches that are sent at one time")
    shards: int = Field(
        0, ge=0, description="Runs of send-shard that help to send a campaign (PostgreSQL only)"
    )
    requests_in_flight: int = Field(128, ge=1, description="Requests at one time in one batch")
    report_wait: float = Field(60, description="Seconds a run waits for reports before its summary")
    expire_after: float = Field(
        259_200, description="Seconds after which a message without a final report has expired"
    )
    sandbox_account_sid: str = "AC" + "5" * 32
    sandbox_auth_token: SecretStr = SecretStr("sandbox-auth-token")

    @field_validator("audience_folders", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if isinstance(value, str):
            return [Path(part) for part in value.split(os.pathsep) if part]
        return value

    @field_validator("ui_login")
    @classmethod
    def _name_and_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        name, _, password = value.get_secret_value().partition(":")
        if not name or not password:
            raise ValueError("write name:password")
        return value

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'sms.db'}"

    @property
    def receiver_url(self) -> str:
        """Where gateways reach the receiver, without a trailing slash."""
        return (self.public_url or f"http://127.0.0.1:{self.receiver_port}").rstrip("/")

    @property
    def folders(self) -> list[Path]:
        """The folders that audience files may be read from."""
        return self.audience_folders or [PROJECT / "data" / "samples", self.home / "audiences"]

    @cached_property
    def key(self) -> bytes:
        """The installation's secret key. It lives outside the database: design of the ledger."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        path = self.home / "secret.key"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            # Written aside and linked, so that two first starts agree on one key.
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip().encode()


@cache
def settings() -> Settings:
    """Return the settings of this process. Tests call `settings.cache_clear()` after a change.

    Raises `SettingsError` naming the variable; never its value, which may be a secret.
    """
    try:
        made = Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = f"SMS_{first['loc'][0]}".upper()
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    # Numbers, texts and keys of people lie in it: nobody else on the machine may look.
    made.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made
