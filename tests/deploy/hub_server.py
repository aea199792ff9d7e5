"""A server on this machine that speaks what huggingface_hub asks of the Hub for one model."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Hub(BaseHTTPRequestHandler):
    """Keeps repositories in memory: name -> file -> content."""

    protocol_version = "HTTP/1.1"
    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    objects: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *_):
        """Print nothing."""

    @property
    def here(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, content, code=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self):
        self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def revision(self, name):
        files = self.repositories[name]
        text = json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        return hashlib.sha1(text.encode()).hexdigest()

    def do_POST(self):
        body, path = self.body(), self.path
        if path == "/api/repos/create":
            given = json.loads(body)
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.repositories.setdefault(name, {})
            return self.answer({"url": f"{self.here}/{name}"})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".onnx") else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            return self.answer({"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.here}/put/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer(
                {"transfer": "basic", "objects": objects},
                Content_Type="application/vnd.git-lfs+json",
            )
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = self.repositories[match[1]]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
            revision = self.revision(match[1])
            url = f"{self.here}/{match[1]}/commit/{revision}"
            return self.answer({"commitUrl": url, "commitOid": revision, "success": True})
        return self.missing()

    def do_PUT(self):
        self.objects[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_GET(self):
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/\w+)?", path):
            if match[1] not in self.repositories:
                return self.missing()
            siblings = [{"rfilename": name} for name in self.repositories[match[1]]]
            about = {"id": match[1], "sha": self.revision(match[1]), "siblings": siblings}
            return self.answer({**about, "private": False, "tags": [], "downloads": 0})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/\w+", path):
            files = self.repositories[match[1]].items()
            return self.answer(
                [
                    {
                        "type": "file", "path": name, "size": len(data),
                        "oid": hashlib.sha1(data).hexdigest(),
                    }
                    for name, data in files
                ]
            )  # fmt: skip
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/\w+/(.+)", path):
            data = self.repositories.get(match[1], {}).get(match[2])
            if data is None:
                return self.answer({}, 404, X_Error_Code="EntryNotFound")
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            return self.answer(data, ETag=tag, X_Repo_Commit=self.revision(match[1]))
        return self.missing()

    do_HEAD = do_GET


def serve():
    """Start the server in a thread; return it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
