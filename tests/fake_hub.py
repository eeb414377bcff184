"""A small Hub on this machine: real HTTP for the real client, with faults on request.

It speaks what huggingface_hub 2.4 asks for when an adapter is pushed and loaded back: whoami,
create, validate-yaml, preupload, LFS batch, upload and verify, commit, info, tree, resolve. Not
Xet: the client must run with ``HF_HUB_DISABLE_XET=1``.

    with FakeHub() as hub:
        hub.fail("PUT", "/lfs/", times=1, drop=True)   # the connection breaks in mid-upload
        subprocess.run([...], env=hub.environment(home))
        hub.repos["me/demo"].files["README.md"]
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

WRITE = "hf_WriteWriteWriteWriteWriteWrite"
READ = "hf_ReadReadReadReadReadReadReadRead"
FINE = "hf_FineFineFineFineFineFineFineFine"


def whoami(token: str) -> dict:
    access = {
        "displayName": "test",
        "role": {WRITE: "write", READ: "read"}.get(token, "fineGrained"),
    }
    if token == FINE:
        scope = {"entity": {"type": "org", "name": "lab"}, "permissions": ["repo.write"]}
        access["fineGrained"] = {"scoped": [scope]}
    return {
        "type": "user",
        "name": "me",
        "orgs": [{"name": "lab", "type": "org"}],
        "auth": {"type": "access_token", "accessToken": access},
    }


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    commits: list[str] = field(default_factory=lambda: ["initial commit"])

    @property
    def sha(self) -> str:
        content = repr((sorted(self.files.items()), self.commits)).encode()
        return hashlib.sha1(content).hexdigest()


@dataclass
class Fault:
    method: str
    part: str  # of the path
    times: int
    status: int = 0
    drop: bool = False  # close the connection without an answer
    headers: dict = field(default_factory=dict)


class FakeHub:
    """The server and what it holds; use it as a context manager."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # LFS objects by sha256
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.forbidden: set[str] = set()  # repositories that nobody may write to
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self})
        )
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FakeHub:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, part: str, times: int = 1, **how) -> None:
        self.faults.append(Fault(method, part, times, **how))

    def seen(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path in self.requests)

    def environment(self, home: Path, token: str | None = WRITE) -> dict[str, str]:
        """For a subprocess whose Hub is this one."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        env |= {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        return env | ({"HF_TOKEN": token} if token else {})


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_one()

    do_HEAD = do_POST = do_PUT = do_GET

    def handle_one(self):
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        with hub.lock:
            hub.requests.append((self.command, path))
            fault = next(
                (f for f in hub.faults if f.times and f.method == self.command and f.part in path),
                None,
            )
            if fault:
                fault.times -= 1
        if fault and fault.drop:
            self.close_connection = True
            self.connection.close()
            return
        if fault:
            self.answer(fault.status, {"error": "on request"}, fault.headers)
            return
        with hub.lock:
            self.route(path, body)

    def chunks(self) -> bytes:
        """The body of a request that was sent in chunks (the commit is)."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status: int, content=None, headers: dict | None = None):
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def route(self, path: str, body: bytes):
        hub = self.hub
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body))
        if path.startswith("/lfs/"):  # a signed address: no token is sent, and none is needed
            hub.stored[path.removeprefix("/lfs/")] = body
            return self.answer(200)
        if self.token not in (None, WRITE, READ, FINE):
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            return self.answer(200, whoami(self.token)) if self.token else self.answer(401)
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(path, json.loads(body))
        if "/lfs-verify/" in path:
            wanted = json.loads(body)
            stored = hub.stored.get(wanted["oid"], b"")
            return self.answer(200 if len(stored) == wanted["size"] else 422)
        if path.startswith("/api/models/"):
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
            return self.model(f"{owner}/{name}", rest, body)
        if "/resolve/" in path:
            return self.resolve(path)
        return self.answer(404, {"error": f"no such address {path}"})

    def validate(self, asked: dict):
        """The Hub's rules for a card that matter here."""
        parts = asked["content"].split("---\n")
        try:
            data = yaml.safe_load(parts[1])
            faults = [] if isinstance(data, dict) else ["metadata is no mapping"]
        except (yaml.YAMLError, IndexError) as error:
            data, faults = {}, [str(error)]
        for key in ("base_model", "datasets"):
            value = (data or {}).get(key)
            names = value if isinstance(value, list) else [value] if value else []
            faults += [f'"{key}" with value "{n}" is no id' for n in names if n[0] in "./~"]
        for model in (data or {}).get("model-index") or []:
            for result in model["results"]:
                if not {"task", "dataset", "metrics"} <= set(result):
                    faults.append("model-index is incomplete")
        status = 400 if faults else 200
        self.answer(status, {"errors": [{"message": f} for f in faults], "warnings": []})

    def create(self, asked: dict):
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if self.token in (None, READ) or name in self.hub.forbidden:
            return self.answer(403, {"error": "You don't have the rights"})
        if name in self.hub.repos:
            return self.answer(409, {"error": "You already created this model repo", **url})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[name] = Repo(private)
        return self.answer(200, url)

    def batch(self, path: str, asked: dict):
        repo = path.strip("/").removesuffix(".git/info/lfs/objects/batch")
        objects = []
        for part in asked["objects"]:
            oid = part["oid"]
            if oid not in self.hub.stored:
                verify = f"{self.hub.url}/{repo}/lfs-verify/{oid}"
                actions = {
                    "upload": {"href": f"{self.hub.url}/lfs/{oid}"},
                    "verify": {"href": verify},
                }
                part = part | {"actions": actions}
            objects.append(part)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def model(self, name: str, rest: list[str], body: bytes):
        repo = self.hub.repos.get(name)
        hidden = repo is None or (repo.private and self.token is None)
        if hidden:
            return self.answer(
                404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": file} for file in repo.files]
            facts = {"id": name, "modelId": name, "private": repo.private, "sha": repo.sha}
            return self.answer(200, facts | {"siblings": siblings, "tags": [], "downloads": 0})
        if rest[0] == "tree":
            return self.answer(
                200,
                [
                    {"type": "file", "path": file, "size": len(content), "oid": git_hash(content)}
                    for file, content in repo.files.items()
                ],
            )
        if self.token in (None, READ) or name in self.hub.forbidden:
            return self.answer(403, {"error": "You don't have the rights"})
        if rest[0] == "preupload":
            return self.answer(
                200, {"files": [self.mode(repo, part) for part in json.loads(body)["files"]]}
            )
        if rest[0] == "commit":
            return self.commit(name, repo, [json.loads(line) for line in body.splitlines()])
        return self.answer(404)

    def mode(self, repo: Repo, part: dict) -> dict:
        path = part["path"]
        lfs = path.endswith((".safetensors", ".png"))
        found = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if path in repo.files:
            content = repo.files[path]
            found["oid"] = hashlib.sha256(content).hexdigest() if lfs else git_hash(content)
        return found

    def commit(self, name: str, repo: Repo, lines: list[dict]):
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del repo.files[value["path"]]
        repo.commits.append(message)
        url = f"{self.hub.url}/{name}/commit/{repo.sha}"
        self.answer(200, {"success": True, "commitOid": repo.sha, "commitUrl": url})

    def resolve(self, path: str):
        name, _, rest = path.strip("/").partition("/resolve/")
        _, _, file = rest.partition("/")
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token is None):
            return self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
        commit = {"X-Repo-Commit": repo.sha}
        if file not in repo.files:
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound", **commit})
        content = repo.files[file]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(200, content, {"ETag": etag, **commit})


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
