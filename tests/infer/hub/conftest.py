"""A hub of our own, which the real huggingface_hub of this process asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ltx_infer.hub import place
from tests.end_to_end.hub.server import Hub, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The server with nothing in it, an empty cache, and nobody signed in."""
    for kept in (server.repositories, server.gated, server.cuts, server.claimed, server.sent):
        kept.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place._listed.cache_clear()
    return server
