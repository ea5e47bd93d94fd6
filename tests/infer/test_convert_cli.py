"""What ltx-convert takes along from beside the source."""

from ltx_infer.convert_cli import _parser, request_of

CHECKPOINT = "ltx-2.3-22b-dev.safetensors"
OWN = ("ltx-2.3-spatial-upscaler-x2-1.1.safetensors", "ltx-2.3-22b-distilled-lora-384.safetensors")
OLD = ("ltx-2-spatial-upscaler-x2-1.0.safetensors", "ltx-2-19b-distilled-lora-384.safetensors")


def companions(source, *, output):
    args = _parser().parse_args(["--source", str(source), "--output", str(output)])
    request = request_of(args)
    return [path.name for path in (*request.upscalers, *request.distilled_loras)]


def test_companions_are_of_the_generation_of_the_source(tmp_path):
    for name in (CHECKPOINT, *OWN, *OLD, "my-upscaler.safetensors", "my-lora.safetensors"):
        (tmp_path / name).write_bytes(b"")
    found = companions(tmp_path / CHECKPOINT, output=tmp_path / "out")
    assert sorted(found) == sorted([*OWN, "my-upscaler.safetensors"])
    (tmp_path / CHECKPOINT).rename(tmp_path / "mine.safetensors")
    found = companions(tmp_path / "mine.safetensors", output=tmp_path / "out")
    assert sorted(found) == sorted([*OWN, *OLD, "my-upscaler.safetensors"])
