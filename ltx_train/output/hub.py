"""The finished run to the hub: weights, card and samples in one commit.

The token is that of HF_TOKEN, or of ``hf auth login``.
"""

from pathlib import Path
from typing import NoReturn

from ltx_models.errors import UserError
from ltx_train.config import TrainConfig
from ltx_train.output.card import model_card
from ltx_train.output.facts import Facts
from ltx_train.output.layout import CONFIG, SAMPLES, made_samples

CARD = "README.md"
DENIED = (401, 403, 404)
LICENSE_NOTE = "it is passed on under the LTX-2 Community License Agreement"


def push(config: TrainConfig, facts: Facts, *, step: int, weights: Path) -> str:
    """Upload a run that is on the disk to ``hub.hub_model_id``, which is made if need be.

    A line with its address. Raises UserError of one line, which says what to do, where it cannot
    be done; nothing on the disk changes.
    """
    from httpx2 import HTTPError  # noqa: PLC0415 (what huggingface_hub sends with)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    name, folder = config.hub.hub_model_id, config.output
    assert name is not None  # the schema asks for it
    if get_token() is None:
        _fail(config, "there is no token; set HF_TOKEN to one that may write")
    samples = made_samples(folder)
    samples = [one for one in samples if one.step == samples[-1].step]
    card = model_card(config, facts, step=step, weights=weights, samples=samples)
    files: dict[str, Path | bytes] = {weights.name: weights, CARD: card.encode()}
    files |= {f"{SAMPLES}/{one.path.name}": one.path for one in samples}
    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.create_commit(
            name,
            [CommitOperationAdd(at, content) for at, content in files.items()],
            commit_message=f"Step {step}",
        )
    except HTTPError as error:
        _fail(config, _why(error))
    except (HFValidationError, OSError, RuntimeError, ValueError) as error:
        # What the upload of one file raises comes in a RuntimeError about it.
        _fail(config, _why(error.__cause__ or error))
    return f"{address}: step {step}; {LICENSE_NOTE}"


def token_note(config: TrainConfig) -> str | None:
    """A line for the start of a run that is to be uploaded, and for now could not be."""
    from huggingface_hub import get_token  # noqa: PLC0415

    if not config.hub.push_to_hub or get_token() is not None:
        return None
    return "hub: there is no token yet; the upload at the end needs HF_TOKEN"


def _why(error: BaseException) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in DENIED:
        return f"the hub says {status}; set HF_TOKEN to a token that may write there"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _fail(config: TrainConfig, why: str) -> NoReturn:
    again = f"ltx-train --config {config.output / CONFIG} --resume --hub-push"
    raise UserError(
        f"hub {config.hub.hub_model_id}: not uploaded: {why}; to try again: {again} "
        f"(the run is whole in {config.output})"
    ) from None
