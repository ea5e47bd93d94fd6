"""What went wrong with the hub, as a person is told it: what to do, in at most four lines."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ltx_models.errors import UserError, printable

SIGN_IN = "`hf auth login`, --token TOKEN or HF_TOKEN"


@contextmanager
def explained(repository: str, *, flag: str) -> Iterator[None]:
    """Raise UserError in place of whatever huggingface_hub raises while the block runs."""
    from httpx2 import HTTPError  # noqa: PLC0415 (what huggingface_hub sends with)
    from huggingface_hub.errors import (  # noqa: PLC0415
        DisabledRepoError,
        EntryNotFoundError,
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    at = f"{flag} {repository}"
    try:
        yield
    except GatedRepoError:
        raise UserError(f"{at}: {_gated(repository)}") from None
    except DisabledRepoError:
        raise UserError(f"{at}: the hub has closed this repository") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{at}: no such file or folder, and no such repository on the hub. If it is a private "
            f"one: {SIGN_IN}"
        ) from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise UserError(f"{at}: {_not_reached(error)}") from None
    except EntryNotFoundError:
        raise UserError(f"{at}: a file of its list is not there any more; try again") from None
    except (HFValidationError, FileMetadataError) as error:
        raise UserError(f"{at}: {_first_line(error)}") from None
    except HfHubHTTPError as error:
        raise UserError(f"{at}: {_refused(error.response.status_code, repository)}") from None
    except HTTPError as error:
        raise UserError(f"{at}: {_not_reached(error)}") from None


def _gated(repository: str) -> str:
    from huggingface_hub import constants, get_token  # noqa: PLC0415

    page = f"{constants.ENDPOINT}/{repository}"
    if get_token() is None:
        return f"accept its licence at {page}, then give your token: {SIGN_IN}"
    return f"your token has no access; accept its licence at {page} with the token's account"


def _refused(status: int, repository: str) -> str:
    if status == 401:
        return f"the hub does not take your token: {SIGN_IN}"
    if status == 403:
        return f"the hub says 403: your token may not read it; {SIGN_IN}"
    if status == 429:
        return "the hub says 429, too many requests; try again in a few minutes"
    return f"the hub says {status} for {repository}; try again later"


def _not_reached(error: Exception) -> str:
    from huggingface_hub import constants  # noqa: PLC0415

    if constants.is_offline_mode():
        name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        return (
            f"it is not on this machine, nor whole in {constants.HF_HUB_CACHE}, and {name} is set."
            "\nUnset that to let it be fetched"
        )
    cause = error.__cause__ or error
    return (
        f"it is not on this machine, and {constants.ENDPOINT} cannot be reached "
        f"({_first_line(cause)})"
    )


def _first_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return printable(said[0] if said else type(error).__name__, longest=200)
