"""What is written beside a clip, by itself and by runs of the command on the stand-in."""

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_infer.cli import main
from ltx_infer.config import build
from ltx_infer.media.container import read_comment
from ltx_infer.pipeline.extras import (
    Extras,
    check_extras,
    frames_folder,
    preview_path,
    watched,
    write_extras,
)
from ltx_infer.pipeline.inputs import Sound
from ltx_infer.pipeline.saved import load
from ltx_infer.several import Several, several
from ltx_models.errors import UserError
from tests.infer.media.written import moving

SMALL = ("--model", "tiny", "-H", "64", "-W", "64", "--one-stage", "--dummy-embeddings")
SMALL += ("--steps", "2", "-n", "9", "-p", "a boat")
ALL = ("--preview", "--save-frames", "--output-audio")
CHUNKS = (moving(3), moving(6)[3:])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_every_frame_is_a_picture_in_a_folder():
    output = Path("out.mp4")
    with watched(iter(CHUNKS), output, Extras(save_frames=True), num_frames=6, fps=24) as (got, _):
        np.testing.assert_array_equal(np.concatenate(list(got)), moving(6))
        assert not frames_folder(output).exists()  # they are not all there yet
    paths = sorted(Path("out_frames").iterdir())
    assert [path.name for path in paths] == [f"frame_{n:05}.png" for n in range(1, 7)]
    np.testing.assert_array_equal(np.stack([np.asarray(Image.open(p)) for p in paths]), moving(6))
    assert names() == ["out_frames"]


def test_frames_of_an_older_clip_go_and_other_files_stay():
    folder = Path("out_frames")
    folder.mkdir()
    for name in ("frame_00001.png", "frame_00009.png", "mine.png", "frame_of_mine.txt"):
        (folder / name).write_text("older")
    wanted = Extras(save_frames=True)
    with watched(iter(CHUNKS), Path("out.mp4"), wanted, num_frames=6, fps=24) as (got, _):
        list(got)
    assert len(list(folder.glob("frame_0*.png"))) == 6
    assert (folder / "mine.png").read_text() == "older"
    assert (folder / "frame_of_mine.txt").exists()


def test_a_clip_that_fails_leaves_no_frames():
    def run() -> None:
        wanted = Extras(preview=True, save_frames=True)
        with watched(iter(CHUNKS), Path("out.mp4"), wanted, num_frames=6, fps=24) as (got, _):
            next(got)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert names() == []


def test_nothing_is_wanted_and_nothing_written():
    with watched(iter(CHUNKS), Path("a.mp4"), Extras(), num_frames=6, fps=24) as (got, shown):
        list(got)
    assert write_extras(Path("a.mp4"), Extras(), shown, None, seconds=1, comment=None) == ()
    assert names() == []


def test_a_sound_that_is_not_there_is_an_error():
    wanted = Extras(output_audio=Path("a.wav"))
    with pytest.raises(UserError, match=r"--output-audio a\.wav: the clip has no sound"):
        write_extras(Path("a.mp4"), wanted, [], None, seconds=1, comment=None)


def test_the_sound_says_what_it_is():
    sound = Sound(np.zeros((2, 100), np.float32), 24000)
    wanted = Extras(output_audio=Path("a.wav"))
    write_extras(Path("a.mp4"), wanted, [], sound, seconds=1, comment="{}")
    assert read_comment(Path("a.wav")) == "{}"


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        (Extras(output_audio=Path("a.mp3")), "a.mp3: the name of a sound ends in .wav"),
        (Extras(output_audio=Path("gone/a.wav")), "there is no folder gone"),
        (Extras(output_audio=Path("out.wav")), "--output-audio out.wav: that is the output itself"),
        (Extras(save_frames=True), "--save-frames: out_frames is no folder"),
        (Extras(preview=True), "--preview: out.preview.png is a folder"),
    ],
)
def test_a_place_that_takes_none_of_it_is_told_before(extras, said):
    Path("out_frames").write_text("a file")
    preview_path(Path("out.wav")).mkdir()
    with pytest.raises(UserError, match=said):
        check_extras(Path("out.wav"), extras)


def said(words: tuple[str, ...], capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*SMALL, *words])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--output-audio", "a.wav"), "--output-audio a.wav: for sound, which --audio makes"),
        (("--skip-vae", "--preview", "--stream"), "--preview, --stream: --skip-vae decodes noth"),
        (("-o", "a.png"), "a.png: a .png has one frame; --num-frames 1, or name a .mp4"),
        (("--save-frames", "--decode-only", "x"), "--decode-only does not go with"),
    ],
)
def test_what_means_nothing_is_an_error(tiny, capsys, words, line):
    assert line in said(words, capsys)
    assert names() == []


def test_names_of_several_clips_are_their_own():
    given = {"prompt": "a boat", "output_path": "x/out.gif", "output_audio": "y/sound.wav"}
    clips = several(given, Several(num_seeds=2))
    assert [clip.output_audio for clip in clips] == [Path("y/sound-42.wav"), Path("y/sound-43.wav")]
    (clip,) = several({"prompt": "a boat", "output_audio": "y/s.wav"}, Several(None, 1, True))
    assert clip.output_audio == Path("y/a-boat-42.wav")
    assert build(given).output_audio == Path("y/sound.wav")


def test_a_gif_with_all_that_can_be_beside_it(tiny, capsys):
    main([*SMALL, "--audio", "--placeholder", *ALL, "sound.wav", "-o", "out.gif"])
    out, err = capsys.readouterr()
    assert names() == ["out.gif", "out.preview.png", "out_frames", "sound.wav"]
    assert out.splitlines() == [
        "out.gif: 9 frames, no sound",
        "out_frames: frames",
        "sound.wav: sound",
        "out.preview.png: preview",
    ]
    assert "--placeholder: no transformer is run; what it would make is noise" in err
    assert "out.gif: a .gif has no sound; it is in sound.wav" in err
    assert len(list(Path("out_frames").iterdir())) == 9
    with wave.open("sound.wav") as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(9 / 24, abs=0.1)
    assert '"placeholder": true' in read_comment(Path("out.gif"))
    assert '"preview"' not in read_comment(Path("out.gif"))  # changes nothing of the clip


def test_latents_are_seen_without_a_vae_and_decoded_later(tiny, capsys):
    main([*SMALL, "--audio", "--skip-vae", "-o", "out.mp4"])
    assert names() == ["out.latents.png", "out.latents.safetensors"]
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "out.latents.safetensors: latents, not decoded",
        "out.latents.png: picture",
    ]
    assert "decode" not in err
    assert load(Path("out.latents.safetensors")).latents.video.shape[2:] == (2, 2, 2)
    main(["--decode-only", "out.latents.safetensors", "-o", "a.webm", *ALL, "a.wav"])
    assert {"a.webm", "a.wav", "a.preview.png", "a_frames"} <= set(names())
    assert len(list(Path("a_frames").iterdir())) == 9


def test_a_placeholder_keeps_what_it_is_given_and_is_noise_elsewhere(tiny, capsys):
    Image.fromarray(moving(1, height=64)[0]).save("first.png")
    words = [*SMALL, "--placeholder", "--image", "first.png", "0", "1.0", "0", "--skip-vae"]
    main([*words, "-o", "one.mp4"])
    main([*words, "-o", "two.mp4", "--seed", "7"])
    one, two = (np.array(load(Path(f"{n}.latents.safetensors")).latents.video) for n in NUMBERS)
    np.testing.assert_array_equal(one[:, :, 0], two[:, :, 0])
    assert np.abs(one[:, :, 1] - two[:, :, 1]).mean() > 0.5
    assert abs(one[:, :, 1].std() - 1) < 0.2


NUMBERS = ("one", "two")
