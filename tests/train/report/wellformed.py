"""A reader of pages that refuses what a browser would mend in silence."""

from html.parser import HTMLParser

from ltx_train.report.page import VOID, Html


class Reader(HTMLParser):
    """The elements of a page, each with its attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """The attributes of the elements of a kind that have these among them."""
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [
            given for name, given in self.found if name == tag and wanted.items() <= given.items()
        ]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def read(part: Html | str) -> Reader:
    return Reader(part.text if isinstance(part, Html) else part)
