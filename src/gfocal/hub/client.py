"""huggingface_hub where it is installed, and its errors in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from gfocal.errors import GfocalError, UsageError
from gfocal.utils.text import visible


def hub_library() -> ModuleType:
    """The library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants  # which it loads by itself when it likes
    except ImportError as error:
        raise UsageError("names with hub: need huggingface_hub: pip install 'gfocal[hub]'") from error
    return huggingface_hub


@contextlib.contextmanager
def explained_hub(name: str) -> Iterator[None]:
    """What the library raises becomes one line.

    Args:
        name: what was asked for, for the message.

    Raises:
        UsageError: there is no such repository, revision or file, or it may not be read or written.
        GfocalError: the hub cannot be reached.
    """
    from huggingface_hub import errors

    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UsageError(f"{name} wants you to agree to its terms on its page first; then {login}") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"there is no repository {name}, or it is private and you are not its reader: {login}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{name} has no such revision (branch, tag or commit)") from error
    except errors.LocalEntryNotFoundError as error:  # no connection, and not here
        raise GfocalError(f"{name} is not here, and the hub cannot be reached ({_line(error)})") from error
    except errors.OfflineModeIsEnabled as error:
        raise UsageError(f"{name} is not here, and HF_HUB_OFFLINE forbids connections") from error
    except errors.EntryNotFoundError as error:
        raise UsageError(f"{name} has no such file ({_line(error)})") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{name} names no repository ({_line(error)})") from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UsageError(f"you may not do that to {name} ({_line(error)}): {login}") from error
        raise GfocalError(f"the hub does not give or take {name} ({_line(error)})") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise  # of a file here
        raise GfocalError(f"the hub cannot be reached for {name} ({_line(error)})") from error
    except Exception as error:  # of whichever library it speaks through: those change with its version
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise GfocalError(f"the hub cannot be reached for {name} ({_line(error)})") from error
        raise


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return visible(words)[:200]
