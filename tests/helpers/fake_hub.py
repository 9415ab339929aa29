"""A hub on this machine: the part of Hugging Face's interface that a model repository takes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.file_server import running


@dataclass
class Repository:
    """Attributes: content of the files by name; whether only its owner sees it; of its card, the licence."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    licence: str | None = None
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


class Hub(ThreadingHTTPServer):
    """Attributes: ``repositories`` by name; ``token``, which may write; ``asked``: method and path of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.token = "hf_secret"
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(match[1], match[2], match[3], body=body)
        self._fail(404, "EntryNotFound")

    def _found(self, name: str, revision: str | None) -> Repository | None:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._is_owner):
            self._fail(401, "RepoNotFound")
        elif revision not in (None, "main", repository.commit):
            self._fail(404, "RevisionNotFound")
        else:
            return repository
        return None

    @property
    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def _info(self, name: str, revision: str | None) -> None:
        if (repository := self._found(name, revision)) is not None:
            card = {} if repository.licence is None else {"cardData": {"license": repository.licence}}
            files = [
                {"rfilename": file, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
                for file, content in repository.files.items()
            ]
            self._json({"id": name, "sha": repository.commit, "private": repository.private, "siblings": files, **card})

    def _file(self, name: str, revision: str, file: str, *, body: bool) -> None:
        if (repository := self._found(name, revision)) is None:
            return
        if file not in repository.files:
            return self._fail(404, "EntryNotFound")
        content = repository.files[file]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        sent = self._body()
        if not self._is_owner:
            return self._fail(401, "")
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            return self._create(json.loads(sent))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(sent)["files"]
            ]
            return self._json({"files": files})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            return self._commit(match[1], sent)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        self._fail(404, "")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _create(self, asked: dict[str, object]) -> None:
        organisation = asked.get("organization")
        name = f"{organisation}/{asked['name']}" if organisation else str(asked["name"])
        if name in self.server.repositories:
            return self._json({"url": f"{self.server.url}/{name}", "error": "there already"}, status=409)
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.repositories[name] = Repository(private=private)
        self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def _commit(self, name: str, sent: bytes) -> None:
        repository = self.server.repositories[name]
        for line in map(json.loads, sent.splitlines()):
            if line["key"] == "header":
                repository.messages.append(line["value"]["summary"])
            elif line["key"] == "file":
                repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = repository.commit
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.server.url}/{name}/commit/{commit}"})

    def _json(self, content: object, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def fake_hub(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A running one that huggingface_hub takes for its own, with a cache in a folder of its own."""
    from huggingface_hub import constants, file_download

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)
    for name in ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    hub = Hub()
    patch.setenv("HF_TOKEN", hub.token)
    patch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # where later and older versions look it up
        patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running(hub):
        yield hub
