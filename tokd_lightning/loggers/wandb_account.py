"""W&B settings, account and connection, read without importing the library."""

import configparser
import http.client
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tokd_lightning.errors import TokdError

_TIMEOUT = 5.0  # seconds, including name resolution
MODES = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
_VARIABLES = {
    "root_dir": "WANDB_DIR",
    "run_name": "WANDB_NAME",
    "run_tags": "WANDB_TAGS",
    "run_job_type": "WANDB_JOB_TYPE",
    "run_notes": "WANDB_NOTES",
}  # all others are WANDB_ plus the setting's name


def setting(name: str) -> str | None:
    """Return a setting of W&B: from the environment, else from its settings files.

    ``wandb offline`` and ``wandb init`` write to ``wandb/settings`` in the working directory,
    ``wandb login --host`` to ``~/.config/wandb/settings``.

    Args:
        name: Its name in W&B's ``Settings``.
    """
    if value := os.environ.get(_VARIABLES.get(name, f"WANDB_{name.upper()}")):
        return value
    hidden = Path(".wandb")
    home = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    for folder in (hidden if hidden.exists() else Path("wandb"), Path(home).expanduser()):
        parser = configparser.RawConfigParser()
        try:
            parser.read(folder / "settings")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue  # W&B does not read it either, and reports it
        if value := parser.get("default", name, fallback=None):
            return value
    return None


def base_url() -> str:
    """Return the address of the W&B server."""
    return (setting("base_url") or "https://api.wandb.ai").rstrip("/")


def has_key() -> bool:
    """Return whether there is an API key, in the settings or for the server's host in netrc."""
    if setting("api_key") or setting("identity_token_file"):
        return True
    path = os.environ.get("NETRC") or "~/.netrc"
    try:
        found = netrc.netrc(Path(path).expanduser())
        return found.authenticators(urlsplit(base_url()).netloc) is not None
    except (OSError, ValueError, netrc.NetrcParseError):
        return False


def wandb_mode() -> str:
    """Return ``online``, ``offline`` or ``disabled``, from W&B's settings or else from the key.

    Raises:
        TokdError: The settings name an unknown mode.
    """
    mode = setting("mode")
    if mode is None:
        return "online" if has_key() else "offline"
    if mode not in MODES:
        raise TokdError(f"WANDB_MODE={mode}: choose from online, offline, disabled, or --log none")
    return MODES[mode]


def unreachable() -> str | None:
    """Check that W&B's server answers, through the same proxies as the library.

    Returns:
        The reason if there is no answer; None if the server answers with a status below 500.
    """
    said: list[str | None] = []
    asking = threading.Thread(target=lambda: said.append(_ask(base_url())), daemon=True)
    asking.start()
    asking.join(_TIMEOUT)
    return said[0] if said else f"no answer within {_TIMEOUT:g} s"


def _ask(url: str) -> str | None:
    request = urllib.request.Request(
        f"{url}/graphql", b'{"query": "{ __typename }"}', {"Content-Type": "application/json"}
    )
    host = urlsplit(url).hostname or ""
    proxies = urllib.request.getproxies()
    for scheme in ("http", "https"):
        if proxy := setting(f"{scheme}_proxy"):
            proxies[scheme] = proxy
    if host in {"localhost", "::1"} or host.startswith("127."):  # W&B uses no proxy for them
        proxies = {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        opener.open(request, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return f"{host} answers {error.code}" if error.code >= 500 else None
    except urllib.error.URLError as error:
        # Certificates are left to W&B, which has its own settings for them.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return None
