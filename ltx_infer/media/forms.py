"""What is in a clip's file, by the ending of its name."""

from typing import NamedTuple

# Else x264's macroblock tree takes code that may give other bits from the same frames in each run.
H264 = {"crf": "19", "preset": "veryfast", "x264-params": "cpu-independent=1"}
# Constant quality wants no rate; "good" at 4 is about as fast as x264's veryfast.
VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"}


class Form(NamedTuple):
    """The codecs of a container, by FFmpeg's names, and what they are told."""

    container: str
    options: dict[str, str]  # the container's
    codec: str
    codec_options: dict[str, str]
    sound: str
    sound_bits: int  # a second
    resampled: int | None  # Hz, for a sound of a rate that the codec lacks


FORMS = {
    ".mp4": Form("mp4", {"movflags": "+faststart"}, "libx264", H264, "aac", 192_000, None),
    ".mov": Form("mov", {"movflags": "+faststart"}, "libx264", H264, "aac", 192_000, None),
    # bitexact: no random numbers in the file
    ".webm": Form("webm", {"fflags": "+bitexact"}, "libvpx-vp9", VP9, "libopus", 160_000, 48_000),
}
SILENT = (".gif", ".png")
ENDINGS = (*FORMS, *SILENT)
