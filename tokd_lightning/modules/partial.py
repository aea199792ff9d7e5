"""Checkpoints that hold what was trained, and the hash and origin of what was not."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.rebuild import drawn_from, rebuild
from tokd_lightning.models.tuning import Tuning, merged, plain_name

HEADER = "tokd"
"""Entry of a checkpoint: kind, network and input."""
FROZEN = "frozen"
"""Entry of the header; checkpoints that hold the whole network have none."""

State = dict[str, Tensor]


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the hash of a state dict's entries."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def take_frozen(state: State, network: Any, tuning: Tuning, kind: str, seed: int) -> dict[str, Any]:
    """Remove the frozen entries from the state dict of a module and return what names them.

    Args:
        state: State dict of the module that trains the network; changed in place.
        network: The network.
        tuning: Its tuning.
        kind: Name of the network in the module: ``teacher``, ``student`` or ``detector``.
        seed: Seed of the initial weights.

    Returns:
        ``hash`` of the frozen entries under their plain names, their number ``values``,
        ``pretrained`` (True, False or the absolute path of a file) and ``seed``.
    """
    taken = {f"{kind}.{name}": state.pop(f"{kind}.{name}") for name in tuning.frozen_entries()}
    source = network.started_from
    return {
        "hash": weights_hash({plain_name(key): value for key, value in taken.items()}),
        "values": sum(value.numel() for value in taken.values()),
        "pretrained": str(Path(source).absolute()) if isinstance(source, str) else source,
        "seed": seed,
    }


def completed(state: State, own: Mapping[str, Tensor], header: Mapping[str, Any], of: Any) -> State:
    """Return the whole state dict of a checkpoint, with the frozen entries of another one.

    Args:
        state: State dict of the checkpoint, which may lack frozen entries.
        own: State dict with the frozen weights, of a network with adapters or without.
        header: Header of the checkpoint.
        of: Name of the checkpoint in messages.

    Raises:
        TokdError: The frozen weights are not those that the checkpoint was trained with.
    """
    kind, frozen = f"{header['kind']}.", header.get(FROZEN)
    if frozen is None:
        return state
    held = set(state) if _adapted(own) else {plain_name(key) for key in state}
    rest = {k: v for k, v in own.items() if k.startswith(kind) and k not in held}
    here = weights_hash({plain_name(key): value for key, value in rest.items()})
    if here != frozen["hash"]:
        raise TokdError(
            f"{of} holds only what was trained, and the rest of its network, {_origin(header)}, is "
            f"not what it was trained with (hash {here[:8]}, not {frozen['hash'][:8]}): "
            + (
                "another version of torch or timm draws other weights; use that of the fit"
                if frozen["pretrained"] is False
                else "use the weights of the fit"
            )
        )
    whole = {**state, **rest}
    return whole if _adapted(own) else merged(whole)


def restored(state: State, header: Mapping[str, Any], path: Path) -> State:
    """Return the whole state dict of a checkpoint, with its frozen weights from where they were.

    A file that is no longer at its recorded path is also looked for next to the checkpoint.

    Args:
        state: State dict of the checkpoint.
        header: Its header.
        path: Its file.

    Raises:
        TokdError: The frozen weights are unavailable, or others.
    """
    frozen = header.get(FROZEN)
    if frozen is None:
        return state
    source = frozen["pretrained"]
    if isinstance(source, str) and not Path(source).is_file():
        source = str(path.parent / Path(source).name)
        if not Path(source).is_file():
            raise TokdError(
                f"{path} holds only what was trained, and the rest of its network, "
                f"{_origin(header)}, is missing: put that file back, or next to the checkpoint"
            )
    try:
        with drawn_from(int(frozen["seed"])):
            network: nn.Module = rebuild(header["network"] | {"pretrained": source}, header["kind"])
    except TokdError as error:
        raise TokdError(
            f"{path} holds only what was trained, and the rest of its network, {_origin(header)}, "
            f"cannot be restored: {error}"
        ) from error
    own = {f"{header['kind']}.{key}": value for key, value in network.state_dict().items()}
    return completed(state, own, header, path)


def _adapted(state: Mapping[str, Tensor]) -> bool:
    return any(".lora_" in key for key in state)


def _origin(header: Mapping[str, Any]) -> str:
    """Return where the frozen weights of a checkpoint come from, in words."""
    source, its = header[FROZEN]["pretrained"], header["network"]
    name = its.get("backbone") or its.get("detector")
    if source is True:
        return f"timm's weights of {name}"
    if source is False:
        return f"random weights of {name} from seed {header[FROZEN]['seed']}"
    return f"the weights of {name} in {source}"
