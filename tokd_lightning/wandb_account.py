"""Whether there is an account on Weights & Biases, found out without asking it."""

import netrc
import os
from urllib.parse import urlparse


def has_key() -> bool:
    """Look for an API key, in WANDB_API_KEY or for the server's host in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_mode() -> str:
    """Decide by WANDB_MODE, else by whether there is a key: online, offline or disabled."""
    if mode := os.environ.get("WANDB_MODE"):
        known = {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}
        return known.get(mode, "online")
    return "online" if has_key() else "offline"
