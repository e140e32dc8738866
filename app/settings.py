"""Settings: flags over environment (`TRICKLAB_…`) over `.env` over defaults."""

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trainer.data_folders import DataFolders

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Where everything is, and how the server listens."""

    model_config = SettingsConfigDict(
        env_prefix="TRICKLAB_",
        env_file=".env",
        # an empty variable is how shells and containers say "not set"
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # the token is one
        hide_input_in_errors=True,
    )

    folder: Path = Field(
        Path("tricklab-data"), description="Where the database, checkpoints and locks live."
    )
    database: str = Field(
        "", description="Database URL; empty means the file tricklab.db in the folder."
    )
    datasets: Path | None = Field(
        None, description="Where data sets are read and downloaded; empty means folder/datasets."
    )
    download: bool = Field(True, description="Whether missing data sets may be downloaded.")
    host: str = Field("127.0.0.1", description="Address the server listens on.")
    port: int = Field(8321, ge=0, le=65_535, description="Port the server listens on.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names by which the server may be called, beside its own address; "
        "with commas between.",
    )
    access: Literal["token", "off"] = Field(
        "token",
        description="Whether who comes must show a token; off only for a server that listens on "
        "this machine alone.",
    )
    token: SecretStr | None = Field(
        None,
        min_length=20,
        max_length=500,
        description="A token of the owner, for programs and for logging in; at least 20 letters.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses of proxies that may say who the client is and whether it came by "
        "https; with commas between.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may use the API with a token, such as "
        "https://notebook.example; with commas between.",
    )
    lease_seconds: float = Field(
        20.0, gt=0, le=3600, description="After this long without a sign a worker counts as lost."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="How often a run that is lost is started again without having got further, "
        "before it counts as failed.",
    )
    hang_seconds: float = Field(
        600.0,
        gt=0,
        le=10**6,
        description="A run that does not get on for so long, and for ten times its slowest moment "
        "before, is ended as hung.",
    )
    inquiry_seconds: float = Field(
        600.0,
        gt=0,
        le=10**6,
        description="A check, proof or sweep that takes longer is ended.",
    )
    reserve_megabytes: int = Field(
        200,
        ge=0,
        le=10**6,
        description="Free disk space that is left for checkpoints and the state of runs: with "
        "less, no run is started and no layer output recorded, MB.",
    )
    ballast_megabytes: int = Field(
        32,
        ge=0,
        le=10**4,
        description="Size of a file that is given up when the disk is full, so that the state of "
        "runs can still be written, MB.",
    )

    @field_validator("allowed_hosts", "trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def split_at_commas(cls, given: Any) -> Any:
        if isinstance(given, str):
            return tuple(name.strip() for name in given.split(",") if name.strip())
        return given

    @cached_property
    def database_url(self) -> str:
        if self.database:
            return self.database
        return f"sqlite:///{(self.folder / 'tricklab.db').absolute()}"

    @cached_property
    def data_folders(self) -> DataFolders:
        return DataFolders(self.datasets or self.folder / "datasets", self.download)

    def run_folder(self, run_id: int) -> Path:
        """Where the files of one run lie; named by number, never by anything a person typed."""
        return self.folder / "runs" / str(run_id)

    def as_environment(self) -> dict[str, str]:
        """These settings as environment variables, for a process started with the same ones.

        Not the token: only a server needs it.
        """
        values = json.loads(self.model_dump_json(exclude_none=True, exclude={"token"}))
        named = {f"TRICKLAB_{name.upper()}": written(value) for name, value in values.items()}
        return {**named, "TRICKLAB_TOKEN": ""}


def written(value: Any) -> str:
    """A setting as an environment variable holds it."""
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)
