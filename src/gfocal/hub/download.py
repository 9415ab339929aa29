"""Weights from a repository of the hub; huggingface_hub keeps them in its own cache (HF_HOME)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfocal.errors import UsageError
from gfocal.hub.client import explained_hub, hub_library
from gfocal.hub.names import HubName
from gfocal.utils.progress import notice
from gfocal.utils.text import Say, join_some, visible

WEIGHTS = ("best.safetensors", "last.safetensors", "model.safetensors")
"""The file that is taken: the first of these that a repository has, else its only .safetensors file."""


def hub_file(name: HubName, *, offline: bool = False, say: Say = notice) -> Path:
    """The weights of a repository, fetched where they are not here yet or have changed there.

    Args:
        name: of the repository.
        offline: take what is here without asking whether it has changed.
        say: gets lines about what is fetched.

    Raises:
        UsageError: there is no such repository or revision, it may not be read, or it has no weights; or
            huggingface_hub is not installed.
        GfocalError: the hub cannot be reached.
    """
    library = hub_library()
    if offline or library.constants.HF_HUB_OFFLINE:
        if (file := local_hub_file(name)) is None:
            raise UsageError(f"{name} is not here, and nothing may be fetched (GFOCAL_OFFLINE, HF_HUB_OFFLINE)")
        return file
    with explained_hub(str(name)):
        info = library.HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        chosen = _choose(name, list(sizes))
        if (here := _local(name, chosen, info.sha)) is not None:
            return here
        say(_offer(name, chosen, sizes[chosen], info))
        # By its name, not by its commit, or it would not be found by that name without a connection.
        return Path(library.hf_hub_download(name.repo, chosen, revision=name.revision))


def local_hub_file(name: HubName) -> Path | None:
    """The weights of a repository that were fetched before; None if there are none."""
    hub_library()
    return next((file for each in WEIGHTS if (file := _local(name, each, name.revision)) is not None), None)


def _local(name: HubName, file: str, revision: str | None) -> Path | None:
    found = hub_library().try_to_load_from_cache(name.repo, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _choose(name: HubName, files: Sequence[str]) -> str:
    known = [file for file in WEIGHTS if file in files]
    others = [file for file in files if file.endswith(".safetensors")]
    if known:
        return known[0]
    if len(others) == 1:
        return others[0]
    have = f"has {join_some([visible(file) for file in others])}" if others else "has no .safetensors file"
    raise UsageError(f"{name} {have}; gfocal takes {', '.join(WEIGHTS)}, or the only one that is there")


def _offer(name: HubName, file: str, size: int | None, info: Any) -> str:
    large = "" if size is None else f", {size / 1e6:,.1f} MB"
    card = getattr(info, "card_data", None)
    licence = getattr(card, "license", None) or "none named in its card"
    return f"{name}: {visible(file)}{large}, from {hub_library().constants.ENDPOINT}, licence: {visible(str(licence))}"
