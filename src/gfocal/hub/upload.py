"""Files into a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from gfocal.hub.client import explained_hub, hub_library
from gfocal.hub.names import HubName


def upload(folder: Path, name: HubName, *, public: bool, message: str) -> str:
    """Put the files of a folder into a repository, in one commit; the address of that commit.

    Args:
        folder: all of its files.
        name: of the repository, which is made if there is none.
        public: that anybody may see a repository that is made here; one that is there already stays as it is.
        message: of the commit.

    Raises:
        UsageError: it may not be written, or has no such branch; or huggingface_hub is not installed.
        GfocalError: the hub cannot be reached.
    """
    library = hub_library()
    with explained_hub(str(name)):
        api = library.HfApi()
        api.create_repo(name.repo, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name.repo, folder_path=folder, revision=name.revision, commit_message=message
        )
        return str(commit.commit_url)
