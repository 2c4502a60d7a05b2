"""All settings of a process, read once from the environment; options of the CLI go over them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from sandboxer.errors import InvalidSpecError

# Bytes of a Unix socket's path, unix(7): sun_path has 108 with the final zero.
MAX_SOCKET_PATH: Final = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process needs to know before it opens the store."""

    data_dir: Path
    """Store, locks and socket; mode 0700."""
    database_url: str
    """`sqlite:///` URL of the store."""
    host: str | None = None
    """`SANDBOXER_HOST`: place new sandboxes on this Host when they name none."""
    compose_command: tuple[str, ...] | None = None
    """`SANDBOXER_COMPOSE_CMD`, split at spaces: over what hosts are found to have."""
    server: str = ""
    """`SANDBOXER_SERVER`: URL of the API that commands talk to, instead of the data directory."""
    token: str = field(default="", repr=False)
    """`SANDBOXER_TOKEN`: bearer token for that server."""
    ca_file: Path | None = None
    """`SANDBOXER_CA_FILE`: PEM file of the authority that signed that server's certificate."""

    state_hub_url: str = ""
    """`SANDBOXER_STATE_HUB_URL`: told what happens to sandboxes, as a sink `state-hub`."""
    state_hub_secret_file: Path | None = None
    """`SANDBOXER_STATE_HUB_SECRET_FILE`: file with the key that its events are signed with."""

    @property
    def database_path(self) -> Path:
        """File of the SQLite store."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def socket_path(self) -> Path:
        """Unix socket the controller serves its API on; mode 0600."""
        return self.data_dir / "sandboxer.sock"

    @property
    def pid_path(self) -> Path:
        """File in which the controller notes its process id, for messages only."""
        return self.data_dir / "controller.pid"

    @property
    def pki_dir(self) -> Path:
        """Directory of the API's certificates; mode 0700."""
        return self.data_dir / "pki"

    @property
    def tokens_path(self) -> Path:
        """File of who may use the API over the network; holds hashes only, mode 0600."""
        return self.data_dir / "tokens.json"

    @property
    def kubeconfig_path(self) -> Path:
        """The kubeconfig of `admin`; mode 0600."""
        return self.data_dir / "kubeconfig"

    @property
    def sinks_path(self) -> Path:
        """File that names who is told what happens to sandboxes; there need not be one."""
        return self.data_dir / "sinks.yaml"

    @property
    def locks_path(self) -> Path:
        """File whose byte ranges are the locks of keys (`sandboxer.store.locks`)."""
        return self.data_dir / "locks"


def socket_address(path: Path) -> str:
    """
    Return what `bind` and `connect` take for a Unix socket at *path*, however long that is.

    A path that does not fit is named by its directory, opened for as long as this process lives.

    Raises:
        OSError: The directory of a long path cannot be opened.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return str(path)
    return f"/proc/self/fd/{_opened(path.parent)}/{path.name}"


@cache
def _opened(directory: Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def settings_from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """
    Read the settings from environment variables.

    Raises:
        InvalidSpecError: A variable has a value that cannot be used.
    """
    data_dir = Path(
        environ.get("SANDBOXER_DATA_DIR") or Path.home() / ".local/share/sandboxer"
    ).absolute()
    url = environ.get("SANDBOXER_DATABASE_URL") or f"sqlite:///{data_dir / 'store.db'}"
    if not url.startswith("sqlite:////"):
        raise InvalidSpecError(
            f"SANDBOXER_DATABASE_URL is {url.split('@')[-1]!r}, and only SQLite with an absolute "
            "path is supported.",
            remedy="Use sqlite:////path/to/store.db or leave it unset.",
        )
    return Settings(
        data_dir=data_dir,
        database_url=url,
        host=environ.get("SANDBOXER_HOST") or None,
        compose_command=tuple((environ.get("SANDBOXER_COMPOSE_CMD") or "").split()) or None,
        server=environ.get("SANDBOXER_SERVER", "").strip(),
        token=environ.get("SANDBOXER_TOKEN", "").strip(),
        ca_file=_path(environ.get("SANDBOXER_CA_FILE")),
        state_hub_url=environ.get("SANDBOXER_STATE_HUB_URL", "").strip(),
        state_hub_secret_file=_path(environ.get("SANDBOXER_STATE_HUB_SECRET_FILE")),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
