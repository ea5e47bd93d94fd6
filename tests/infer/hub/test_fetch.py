import hashlib

import pytest
from huggingface_hub import constants, try_to_load_from_cache

from ltx_infer.hub import fetch as fetch_module
from ltx_infer.hub import find_model
from ltx_infer.hub.fetch import fetch, take
from ltx_infer.hub.place import Wanted, _listed, repository_place
from ltx_models.errors import UserError
from tests.end_to_end.hub.server import TOKEN

BIG, SMALL = "big.safetensors", "config.json"
CONTENT = bytes(range(256)) * 50_000  # 12.8 MB; huggingface_hub takes 10 MB at once
CHUNK = constants.DOWNLOAD_CHUNK_SIZE


@pytest.fixture
def model(hub):
    hub.repositories["me/model"] = {BIG: CONTENT, SMALL: b"{}", "other.safetensors": b"x"}
    return hub


def place(name="me/model"):
    _listed.cache_clear()  # as in a new process
    return repository_place(name, flag="--model")


def said(names, *, name="me/model"):
    lines = []
    fetch([Wanted(place(name), tuple(names))], say=lines.append)
    return lines


def test_files_are_listed_with_sizes_and_fetched_once(model):
    assert said([BIG, SMALL]) == [
        "to fetch from me/model: 2 files, 12.8 MB",
        "  big.safetensors: 12.8 MB",
        "  config.json: 2 bytes",
    ]
    assert model.fetched() == ["me/model/big.safetensors", "me/model/config.json"]
    assert (place().folder / BIG).read_bytes() == CONTENT
    assert said([BIG, SMALL]) == []
    assert model.fetched() == []


def test_the_cache_is_huggingface_hubs(model):
    folder = take(place(), [SMALL], say=lambda _: None)
    assert try_to_load_from_cache("me/model", SMALL) == str(folder / SMALL)
    assert not list(folder.parents[1].glob("blobs/*.incomplete"))


def test_a_new_commit_fetches_what_changed(model):
    said([BIG, SMALL])
    model.repositories["me/model"][SMALL] = b"[]"
    model.fetched()
    assert said([BIG, SMALL]) == [
        "to fetch from me/model: 1 file, 2 bytes",
        "  config.json: 2 bytes",
    ]
    assert model.fetched() == ["me/model/config.json"]
    assert (place().folder / BIG).read_bytes() == CONTENT


def test_a_cut_connection_resumes_within_a_run(model):
    model.cuts[BIG] = [CHUNK + 5]
    said([BIG])
    assert [each.start for each in model.sent] == [0, CHUNK]
    assert (place().folder / BIG).read_bytes() == CONTENT


def test_the_next_run_goes_on_from_where_one_was_cut_off(model, monkeypatch):
    monkeypatch.setattr(fetch_module, "TRIES", 1)
    model.cuts[BIG] = [CHUNK + 5] + [0] * 20
    monkeypatch.setattr("time.sleep", lambda _: None)  # of http_get, between its own tries
    with pytest.raises(UserError, match=r"was lost with 10\.5 MB of 12\.8 MB of .*\nThe same comm"):
        said([BIG])
    model.cuts.clear()
    model.sent.clear()
    assert said([BIG])[1] == "  big.safetensors: 12.8 MB, 10.5 MB of it here"
    assert [each.start for each in model.sent] == [CHUNK]
    assert (place().folder / BIG).read_bytes() == CONTENT


def test_what_was_damaged_on_the_way_is_fetched_anew(model):
    blobs = place().folder.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(CONTENT).hexdigest()}.incomplete").write_bytes(b"wrong")
    with pytest.raises(
        UserError, match=r"^--model me/model: big\.safetensors is damaged, as an ear"
    ):
        said([BIG])
    said([BIG])
    assert (place().folder / BIG).read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(model, tmp_path):
    model.claimed[BIG] = size = 10**18
    with pytest.raises(UserError) as error:
        said([SMALL, BIG])
    first, second = str(error.value).splitlines()
    assert first.startswith(
        f"{tmp_path}/cache: 1000000000 GB ({size + 2} bytes) are to be fetched, "
    )
    assert " bytes) are free there." in first
    assert second.startswith("Make room, or name a folder of another disk with HF_HOME.")
    assert model.fetched() == []


def test_a_gated_repository_names_its_page(model, monkeypatch):
    model.gated.add("me/model")
    with pytest.raises(UserError) as error:
        said([SMALL])
    assert str(error.value) == (
        f"--model me/model: accept its licence at {model.address}/me/model, then give your token: "
        "`hf auth login`, --token TOKEN or HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(UserError, match=r"your token has no access; accept its licence at http"):
        said([SMALL])
    assert model.fetched() == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    said([SMALL])
    assert model.fetched() == ["me/model/config.json"]


def test_a_missing_repository_is_one_line(hub, monkeypatch):
    for token in ("", TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UserError) as error:
            find_model("me/gone", variant="dev")
        assert str(error.value) == (
            "--model me/gone: no such file or folder, and no such repository on the hub. If it is "
            "a private one: `hf auth login`, --token TOKEN or HF_TOKEN"
        )


def test_without_a_network_the_cache_is_enough(model, monkeypatch):
    said([BIG, SMALL])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = find_model(f"me/model::{BIG}", variant="dev")
    assert files.checkpoint.read_bytes() == CONTENT
    with pytest.raises(UserError) as error:
        place("me/else")
    assert str(error.value) == (
        f"--model me/else: it is not on this machine, nor whole in {constants.HF_HUB_CACHE}, and "
        "HF_HUB_OFFLINE is set.\nUnset that to let it be fetched"
    )


def test_a_hub_that_cannot_be_reached_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^--model me/m: it is not on this machine, and http://127"
    ):
        place("me/m")
