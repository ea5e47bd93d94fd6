from pathlib import Path

import pytest

from ltx_infer.several import Several, read_prompts, several, slug
from ltx_models.errors import UserError

GIVEN = {"prompt": "a boat", "output_path": "clips/out.mov", "seed": 7}


def names(given: dict, **how) -> list[tuple[str, str, int]]:
    configs = several(given, Several(**how))
    return [(str(c.output_path), c.prompt, c.seed) for c in configs]


def test_one_clip_is_the_output_itself():
    assert names(GIVEN) == [("clips/out.mov", "a boat", 7)]


def test_seeds_follow_each_other():
    assert names(GIVEN, num_seeds=2) == [
        ("clips/out-7.mov", "a boat", 7),
        ("clips/out-8.mov", "a boat", 8),
    ]


def test_prompts_have_the_numbers_of_their_lines():
    given = {"seed": 7}
    prompts = [(2, "a boat"), (10, "a train")]
    assert [name for name, *_ in names(given, prompts=prompts)] == [
        "output-02.mp4",
        "output-10.mp4",
    ]
    both = names(given, prompts=prompts, num_seeds=2)
    assert [name for name, *_ in both][1:3] == ["output-02-8.mp4", "output-10-7.mp4"]
    assert both[3][1:] == ("a train", 8)


def test_clips_named_after_prompt_and_seed(tmp_path):
    given = {"prompt": "A red boat, at dusk!", "seed": 7}
    assert names(given, auto_output_name=True)[0][0] == "a-red-boat-at-dusk-7.mp4"
    sound = {**given, "pipeline": "t2a", "output_path": str(tmp_path)}
    assert names(sound, auto_output_name=True)[0][0] == str(tmp_path / "a-red-boat-at-dusk-7.wav")
    alike = [(1, "a boat"), (2, "a boat!")]
    found = names({"seed": 7}, prompts=alike, auto_output_name=True)
    assert [name for name, *_ in found] == ["a-boat-7.mp4", "a-boat-7-2.mp4"]
    encoded = {"embedding": "features/a-train.safetensors"}
    assert names(encoded, auto_output_name=True)[0][0] == "a-train-42.mp4"
    with pytest.raises(UserError, match="--auto-output-name names the clip; a folder would fit"):
        names(GIVEN, auto_output_name=True)


def test_a_slug_is_short_and_never_empty():
    assert slug("?!") == "clip"
    assert slug("Der Fluß, 1920") == "der-fluß-1920"
    assert len(slug("boats " * 50)) <= 40


def test_prompts_that_are_given_twice():
    with pytest.raises(UserError, match="--prompts-file has the prompts; it does not go with"):
        names(GIVEN, prompts=[(1, "a train")])


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_counts_that_do_not_fit(count):
    with pytest.raises(UserError, match=rf"--count {count}: 1 to 10000 would fit"):
        names(GIVEN, num_seeds=count)


def test_a_file_of_prompts(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff a boat \n\n# not this\na train\n", encoding="utf-8")
    assert read_prompts(path) == [(1, "a boat"), (4, "a train")]
    path.write_text("\n# none\n")
    with pytest.raises(UserError, match=r"prompts\.txt: no prompt in it"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text in UTF-8"):
        read_prompts(path)
    with pytest.raises(UserError, match=r"gone\.txt: no such file"):
        read_prompts(tmp_path / "gone.txt")
