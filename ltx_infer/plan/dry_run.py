"""What a run would do, in lines: its files, its stages, the memory that it takes."""

from collections.abc import Sequence
from pathlib import Path

from ltx_infer.config import GenerateConfig
from ltx_infer.generate import Planned
from ltx_infer.hub.fetch import to_fetch
from ltx_infer.hub.place import Wanted, shown_size
from ltx_infer.hub.request import find_files
from ltx_infer.job import Job, Say, prepare_job
from ltx_infer.plan.fit import cheapest, told
from ltx_infer.plan.plan import here
from ltx_models.device import machine_memory

UNKNOWN = "the memory is planned from these files' headers; --download-only fetches them"


def _quietly(*_: object) -> None:
    pass


def dry_run(
    configs: Sequence[GenerateConfig], *, say: Say, planned: Planned = _quietly
) -> list[str]:
    """The lines for some clips of one request; fetches nothing and reads no weights.

    ``planned`` is as in ``generate_each``.

    Raises UserError for what cannot be had or made.
    """
    config, wanted = configs[0], list[Wanted]()

    def note(found: Sequence[Wanted]) -> int:
        wanted.extend(found)
        return 0

    find_files(config, say=say, bring=note)
    if missing := to_fetch(wanted):
        return [*missing, UNKNOWN]
    job = prepare_job(config, say=say, prompts=[each.text for each in configs], fitting=False)
    limit = machine_memory()
    planned(job.chosen.plan, limit)
    lines = [*_files(job), *told(job.run, job.chosen, limit=limit)]
    if job.chosen.plan.total > limit:
        found = cheapest(job.run, config, job.chosen, here(job.models.dtype), limit=limit)
        lines.append(f"that does not fit. {found}")
    return lines


def _files(job: Job) -> list[str]:
    models = job.models
    loras = {file.path: None for stage in job.recipe.stages for file, _ in job.loras.of(stage)}
    paths = [models.checkpoint.path, models.gemma, models.upscaler, models.temporal_upscaler]
    there = [path for path in (*paths, *loras) if path is not None]
    return ["files:", *(f"  {path}: {shown_size(_size(path))}" for path in there)]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*.safetensors")
    return sum(file.stat().st_size for file in files)
