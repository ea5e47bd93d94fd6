import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_train.inputs.buckets import Bucket, best_bucket, check_buckets, parse_buckets

WIDE, TALL, SQUARE = Bucket(96, 64, 9), Bucket(64, 96, 9), Bucket(64, 64, 9)


def test_buckets_are_read():
    assert parse_buckets("96x64x9; 64x96x17") == (WIDE, Bucket(64, 96, 17))
    assert parse_buckets("96x64x9;96x64x9") == (WIDE,)
    assert str(WIDE) == "96x64x9"


@pytest.mark.parametrize("text", ["", "64x64", "64x64x9;", "64*64*9", "-64x64x9", "64x64x9,1x1x1"])
def test_what_is_no_bucket(text):
    with pytest.raises(UserError, match="is no WIDTHxHEIGHTxFRAMES"):
        parse_buckets(text)


@pytest.mark.parametrize(
    ("bucket", "fitting"),
    [("65x64x9", "64x64x9"), ("64x20x9", "64x32x9"), ("64x64x8", "64x64x9"), ("0x0x0", "32x32x1")],
)
def test_sizes_that_make_no_latents(bucket, fitting):
    with pytest.raises(UserError) as error:
        check_buckets(parse_buckets(bucket), VideoScale(8, 32))
    assert str(error.value).startswith(f"--resolution-buckets {bucket}: ")
    assert str(error.value).endswith(f"{fitting} would fit")


def test_nearest_shape_then_frames_then_area():
    longer, larger = SQUARE._replace(num_frames=17), Bucket(128, 128, 17)
    all_of_them = (SQUARE, WIDE, TALL, longer, larger)
    assert best_bucket(all_of_them, height=72, width=128, num_frames=40) == WIDE
    assert best_bucket(all_of_them, height=128, width=72, num_frames=40) == TALL
    assert best_bucket(all_of_them, height=100, width=100, num_frames=40) == larger
    assert best_bucket(all_of_them, height=100, width=100, num_frames=16) == SQUARE
    assert best_bucket(all_of_them, height=100, width=100, num_frames=8) is None


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 30))
def test_a_bucket_is_never_longer_than_the_clip(height, width, num_frames):
    buckets = (SQUARE, WIDE, TALL._replace(num_frames=25))
    bucket = best_bucket(buckets, height=height, width=width, num_frames=num_frames)
    assert (bucket is None) == (num_frames < 9)
    assert bucket is None or bucket.num_frames <= num_frames
