"""What is chosen for the memory that there is, and what is said where it is too little."""

import mlx.core as mx
import pytest

from ltx_infer.config import build
from ltx_infer.generate import generate
from ltx_infer.job import prepare_job
from ltx_infer.plan.fit import TILINGS, check_fit, choose, compared, limits_for
from ltx_infer.plan.parts import Part
from ltx_infer.plan.plan import Plan, here, tokens_of
from ltx_models.errors import UserError

SIZE = {"model": "tiny", "prompt": "a boat", "height": 64, "width": 64, "num_frames": 9}
GUIDED = {**SIZE, "pipeline": "dev", "stg_scale": 1.0}


def job_of(**asked):
    return prepare_job(build({**SIZE, **asked}), say=lambda line: None)


def chosen(job, limit: float, **asked):
    config = build({**SIZE, **asked})
    return choose(job.run, config, here(job.models.dtype), limit=int(limit))


def test_with_room_all_passes_are_made_at_once(tiny):
    job = job_of(**GUIDED)
    assert job.chosen.choices.max_batch_size == 3
    assert job.chosen.choices.tiling == "auto"
    assert chosen(job, 1e12, **GUIDED, max_batch_size=2).choices.max_batch_size == 2


def test_with_less_room_fewer_passes_and_smaller_tiles(tiny):
    job = job_of(**GUIDED)
    stage = next(part for part in job.chosen.plan.parts if part.name == "sampling")
    decode = next(part for part in job.chosen.plan.parts if part.name == "decode")
    assert chosen(job, stage.total - 1, **GUIDED).choices.max_batch_size < 3
    least = chosen(job, 1000, **GUIDED)
    assert least.choices.max_batch_size == 1
    assert least.choices.tiling == TILINGS[-1]
    assert chosen(job, decode.total - 1, **GUIDED).choices.tiling != "auto"
    assert chosen(job, 1000, **GUIDED, tiling="none").choices.tiling == "none"


def said(job, limit: float, **asked) -> list[str]:
    config = build({**SIZE, **asked})
    on = here(job.models.dtype)
    found = choose(job.run, config, on, limit=int(limit))
    with pytest.raises(UserError) as error:
        check_fit(job.run, config, found, on, limit=int(limit))
    check_fit(job.run, config.model_copy(update={"force": True}), found, on, limit=int(limit))
    return str(error.value).splitlines()


def test_what_does_not_fit_is_refused_with_what_would(tiny):
    longer = {**GUIDED, "max_batch_size": 3, "num_frames": 17}
    job = job_of(**longer)
    run = job.run._replace(prompts=[])  # the text encoder is another matter
    job = job._replace(run=run)
    total = max(part.total for part in job.chosen.plan.parts if part.name == "sampling")
    lines = said(job, 0.8 * total, **longer)
    assert len(lines) == 2
    assert lines[0].startswith("memory: this run takes ")
    assert "are there for it." in lines[0]
    assert lines[1].startswith("--max-batch-size 1")
    assert lines[1].endswith("To try it all the same: --force")


def test_a_text_encoder_that_is_too_large_and_a_clip_that_nothing_helps(tiny):
    job = job_of()
    assert "--text-encoder-repo mlx-community/gemma-3-12b-it-4bit" in said(job, 10**6)[1]
    job = job._replace(run=job.run._replace(prompts=[]))
    assert said(job, 1000)[1].startswith("Make the clip smaller or shorter")


def test_a_run_is_refused_before_it_begins(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"total": 10**6})())
    config = build({**SIZE, "output_path": str(tmp_path / "out.mp4")})
    with pytest.raises(UserError, match=r"memory: this run takes .* MB"):
        generate(config, report=lambda *_: None)
    assert not (tmp_path / "out.mp4").exists()


def test_tokens_of_what_is_given(tiny, tmp_path):
    job = job_of(pipeline="dev", audio=True, num_frames=17, skip_vae=True)
    (stage,) = job.recipe.stages
    tokens = tokens_of(job.run, stage)
    assert tokens["video"] == (3 * 2 * 2, False, False)
    assert tokens["audio"].number == job.models.num_audio_latents(job.size)


def test_limits_are_set_for_a_run_and_put_back():
    limit, cache = mx.set_memory_limit(10**10), mx.set_cache_limit(10**7)
    plan = Plan((Part("decode", 4 * 10**8, 10**8),))
    with limits_for(plan, limit=8 * 10**8):
        assert mx.set_memory_limit(8 * 10**8) == 8 * 10**8
        assert mx.set_cache_limit(10**8) == 10**8  # an eighth of the limit
    assert mx.set_cache_limit(cache) == 10**7
    assert mx.set_memory_limit(limit) == 10**10


def test_what_was_planned_is_said_beside_what_was_taken():
    plan = Plan((Part("decode", 10**9, 2 * 10**8),))
    assert compared(plan, 11 * 10**8) == "memory: planned 1.2 GB, measured 1.1 GB"
