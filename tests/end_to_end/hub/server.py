"""A server that speaks the hub's interface: what an upload takes, and what fetching takes."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".mp4")  # what goes by LFS, as on the hub
TOKEN = "hf_of_the_test"


class Sent(NamedTuple):
    """One answer with bytes of a file, from ``start`` on."""

    repository: str
    name: str
    start: int
    num_bytes: int


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with its files; and objects of LFS by their SHA-256.

    ``gated`` ones need the token. ``cuts`` has, by a file's name, after how many bytes each of the
    next answers ends; ``claimed`` a size that is not the file's. ``sent`` is what was fetched.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.messages: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.verified: set[str] = set()
        self.gated: set[str] = set()
        self.cuts: dict[str, list[int]] = {}
        self.claimed: dict[str, int] = {}
        self.sent: list[Sent] = []

    def fetched(self) -> list[str]:
        """What was fetched since this was asked last, in order, as user/repo/file."""
        names = sorted({f"{each.repository}/{each.name}" for each in self.sent})
        self.sent.clear()
        return names

    def commit(self, repository: str) -> str:
        """The hash of what a repository has."""
        files = sorted(self.repositories[repository].items())
        parts = [name.encode() + hashlib.sha1(data).digest() for name, data in files]
        return hashlib.sha1(b"".join(parts)).hexdigest()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers with JSON; 401 without the token, 404 for what it does not know."""

    server: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which waits 40 ms between header and body

    def do_POST(self) -> None:
        body = self._body()
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, status=401)
            return
        kinds = {
            "/api/repos/create": self._create,
            "/api/validate-yaml": self._validate,
            "/preupload/main": self._preupload,
            ".git/info/lfs/objects/batch": self._batch,
            "/verify": self._verify,
            "/commit/main": self._commit,
        }
        answer = next((kind for end, kind in kinds.items() if self.path.endswith(end)), None)
        if answer is None:
            self._answer({"error": f"no {self.path} here"}, status=404)
        else:
            answer(body)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _serve(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        listing = path.startswith("api/models/")
        owner, repository, *rest = path.removeprefix("api/models/").split("/")
        name = f"{owner}/{repository}"
        if name not in self.server.repositories:
            self._refuse(404 if self._signed_in() else 401, "RepoNotFound")
        elif listing:
            self._answer(self._listing(name))
        elif name in self.server.gated and not self._signed_in():
            self._refuse(401, "GatedRepo")
        elif rest[2:] and "/".join(rest[2:]) in self.server.repositories[name]:
            self._send_file(name, "/".join(rest[2:]), body=body)
        else:
            self._refuse(404, "EntryNotFound")

    def _signed_in(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _listing(self, repository: str) -> dict:
        files = self.server.repositories[repository]
        sizes = {name: self.server.claimed.get(name, len(data)) for name, data in files.items()}
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        return {"id": repository, "sha": self.server.commit(repository), "siblings": siblings}

    def _send_file(self, repository: str, name: str, *, body: bool) -> None:
        data = self.server.repositories[repository][name]
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        large = name.endswith(LARGE)
        etag = (hashlib.sha256 if large else hashlib.sha1)(data).hexdigest()
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", self.server.commit(repository))
        size = self.server.claimed.get(name, len(data))
        self.send_header("Content-Length", str(size - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if not body:
            return
        cuts = self.server.cuts.get(name)
        end = start + cuts.pop(0) if cuts else len(data)
        self.server.sent.append(Sent(repository, name, start, len(data[start:end])))
        self.wfile.write(data[start:end])
        self.close_connection = end < len(data)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer({})

    def log_message(self, *_) -> None:
        """Say nothing."""

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name.startswith("other/"):
            self._answer({"error": "You don't have the rights"}, status=403)
            return
        there = name in self.server.repositories
        self.server.repositories.setdefault(name, {})
        url = {"url": f"{self.server.address}/{name}"}
        self._answer(
            {**url, **({"error": "exists"} if there else {})}, status=409 if there else 200
        )

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no front matter"}]
        self._answer({"errors": errors, "warnings": []})

    def _preupload(self, body: bytes) -> None:
        names = [file["path"] for file in json.loads(body)["files"]]
        modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
        files = [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]
        self._answer({"files": files})

    def _batch(self, body: bytes) -> None:
        objects = json.loads(body)["objects"]
        for each in objects:
            at = f"{self.server.address}/objects/{each['oid']}"
            each["actions"] = {"upload": {"href": at}, "verify": {"href": f"{at}/verify"}}
        self._answer({"transfer": "basic", "objects": objects})

    def _verify(self, body: bytes) -> None:
        asked = json.loads(body)
        there = self.server.objects[asked["oid"]]
        assert len(there) == asked["size"]
        assert hashlib.sha256(there).hexdigest() == asked["oid"]
        self.server.verified.add(asked["oid"])
        self._answer({})

    def _commit(self, body: bytes) -> None:
        name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        files = self.server.repositories[name]
        for line in body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "header":
                self.server.messages.append(value["summary"])
            elif part["key"] == "lfsFile":
                assert value["oid"] in self.server.verified
                files[value["path"]] = self.server.objects[value["oid"]]
            else:
                assert (part["key"], value["encoding"]) == ("file", "base64")
                files[value["path"]] = base64.b64decode(value["content"])
        self._answer({"commitUrl": f"{self.server.address}/{name}/commit/1", "commitOid": "1"})

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, what: object, *, status: int = 200) -> None:
        data = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
