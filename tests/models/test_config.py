import pytest

from ltx_models.config import ConfigError, parse_object, read_object


def test_an_object_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"key": [1, "\u00e9"]}', encoding="utf-8")
    assert read_object(path) == {"key": [1, "\u00e9"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", r"a\.json is not a JSON object, but \[\]$"),
        (b"null", r"a\.json is not a JSON object, but null$"),
        (b'"text"', r'a\.json is not a JSON object, but "text"$'),
        (b"[" + b"1," * 99 + b"1]", r"a\.json is not a JSON object, but \[1, 1, .*\.\.\.$"),
        (b'{"key": ', r"a\.json is not JSON: Expecting value.*\nFetch it again\.$"),
        (b"", r"a\.json is not JSON: Expecting value"),
        (b'{"key": "\xff"}', r"a\.json is not JSON: no UTF-8 text: .*0xff"),
        (b"[" * 99_999, r"a\.json is not JSON: "),
        (b'{"key": ' + b"9" * 9999 + b"}", r"a\.json is not JSON: "),
    ],
    ids=["list", "null", "text", "long", "torn", "empty", "bytes", "deep", "digits"],
)
def test_what_is_no_object_is_an_error(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_object(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 300 + len(str(path))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.json: no such file or folder"):
        read_object(tmp_path / "gone.json")
    with pytest.raises(ConfigError, match=r": is a folder, a file is wanted"):
        read_object(tmp_path)


def test_a_text_is_named_by_its_place():
    assert parse_object("{}", at="file: config") == {}
    with pytest.raises(ConfigError, match=r"^file: config is not a JSON object, but 3$"):
        parse_object("3", at="file: config")
