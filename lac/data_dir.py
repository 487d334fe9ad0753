"""The data directory: made on first use, and the secrets that live in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path

from lac.errors import ConfigError

SECRETS_FILE = "secrets.json"


def prepare_data_dir(data_dir: Path) -> None:
    """Make sure that the directory exists and can be written to. Raises `ConfigError`."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f"LAC_DATA_DIR: {data_dir} cannot be written to ({error.strerror}). "
            "Give this user access to it or choose another directory."
        ) from None


def load_or_create_secrets(data_dir: Path) -> tuple[str, str]:
    """The secrets for access and refresh tokens, generated once into `secrets.json` (mode 0600)."""
    prepare_data_dir(data_dir)
    path = data_dir / SECRETS_FILE
    if not path.exists():
        _create_once(path, {"jwtSecret": secrets.token_urlsafe(48), "jwtRefreshSecret": secrets.token_urlsafe(48)})
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return str(kept["jwtSecret"]), str(kept["jwtRefreshSecret"])
    except OSError as error:
        raise ConfigError(f"JWT_SECRET is not set and {path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path} is damaged. Restore it, or remove it to make new secrets (everyone has to sign in again)."
        ) from None


def _create_once(path: Path, content: dict[str, str]) -> None:
    """Write a complete file, or leave the one that another process has just written."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secrets-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(temporary, path)  # noqa: PTH105  as below
    except OSError as error:
        raise ConfigError(f"LAC_DATA_DIR: {path} cannot be written ({error.strerror}).") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108  a plain string path from mkstemp
