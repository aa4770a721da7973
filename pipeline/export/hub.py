"""An export -> a repository on a model hub, through huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.export.folder import FILES
from shards.errors import UserError

_OPTION = "--push-to"


def connect() -> Any:
    """The hub's client.

    Raises:
        UserError: if huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            f"{_OPTION}: huggingface_hub is not installed; pip install huggingface_hub"
        ) from None
    return HfApi()


def push(api: Any, folder: Path, repository: str, *, public: bool) -> str:
    """Upload the export's files, and no others, to `repository`; returns its address.

    A repository that does not exist is created, private unless `public`; one that exists stays as
    visible as it is.

    Raises:
        UserError: for a name that the hub does not allow, and if it cannot be reached or refuses.
    """
    try:
        url = api.create_repo(repository, repo_type="model", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="model",
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload backbone",
        )
    except Exception as error:  # of the hub's HTTP library, which depends on its version
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"{_OPTION}={repository}: {reason}; check the name (OWNER/NAME), the network, and "
            "`hf auth login`"
        ) from None
    return str(url)
