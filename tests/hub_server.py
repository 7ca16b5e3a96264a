"""A hub on the loopback address: as much of its HTTP API as models need to come and go."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

from huggingface_hub import constants

WRITER, READER = "hf_writer", "hf_reader"  # tokens: all that the first may do, and too little


class Hub:
  """What is on the hub.

  Attributes:
    models: by id, a record of `private` and of `files`, their content by path.
    commits: the files that each commit changed.
  """

  def __init__(self):
    self.models, self.commits = {}, []

  def sha(self, name):
    content = repr(sorted(self.models[name]["files"].items())).encode()
    return hashlib.sha1(content).hexdigest()

  def commit(self, name, lines):
    files, changed = self.models[name]["files"], []
    for line in map(json.loads, lines.splitlines()):
      value = line["value"]
      if line["key"] == "file":
        files[value["path"]] = base64.b64decode(value["content"])
      elif line["key"] == "deletedFile":
        del files[value["path"]]
      if line["key"] != "header":
        changed.append(value["path"])
    self.commits.append(changed)

  def info(self, name):
    model = self.models[name]
    files = [{"rfilename": path} for path in sorted(model["files"])]
    return {
        "id": name,
        "modelId": name,
        "sha": self.sha(name),
        "private": model["private"],
        "siblings": files,
    }


class _Handler(http.server.BaseHTTPRequestHandler):
  hub: Hub

  def log_message(self, *args):
    pass

  def answer(self, value, status=200, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    self.send_response(status)
    for name, content in {"Content-Length": len(body), **headers}.items():
      self.send_header(name.replace("_", "-"), str(content))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)

  def refused(self):
    """Answers what the token does not allow; returns True if it did."""
    token = self.headers.get("Authorization", "").removeprefix("Bearer ")
    if token == WRITER:
      return False
    self.answer(
        {"error": "Forbidden" if token else "Invalid username or password."}, 403 if token else 401
    )
    return True

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    if self.refused():
      return
    if self.path == "/api/repos/create":
      asked = json.loads(body)
      name = f"{asked['organization']}/{asked['name']}"
      private = asked.get("private") or asked.get("visibility") == "private"
      self.hub.models[name] = {"private": bool(private), "files": {".gitattributes": b"x"}}
      self.answer({"url": f"{constants.ENDPOINT}/{name}"})
      return
    if self.path == "/api/validate-yaml":  # of a card
      self.answer({"errors": [], "warnings": []})
      return
    name, action = re.match(r"/api/models/([^/]+/[^/]+)/(\w+)/main", self.path).groups()
    if action == "preupload":
      files = [
          {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
          for file in json.loads(body)["files"]
      ]
      self.answer({"files": files})
      return
    self.hub.commit(name, body)
    sha = self.hub.sha(name)
    self.answer({"commitUrl": f"{constants.ENDPOINT}/{name}/commit/{sha}", "commitOid": sha})

  def do_GET(self):
    path = self.path.partition("?")[0]
    api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/[^/]+)?", path)
    file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/\w+/(.+)", path)
    if not (api or file):
      self.answer({"error": "not found"}, 404)
      return
    name = (api or file)[1]
    model = self.hub.models.get(name)
    if model is None or (file and file[2] not in model["files"]):
      code = "EntryNotFound" if model else "RepoNotFound"
      self.answer({"error": "not found"}, 404, X_Error_Code=code)
    elif file:
      content = model["files"][file[2]]
      etag = hashlib.sha1(content).hexdigest()
      self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=self.hub.sha(name))
    elif api[2] == "tree":
      sizes = [
          {
              "type": "file",
              "path": path,
              "size": len(content),
              "oid": hashlib.sha1(content).hexdigest(),
          }
          for path, content in sorted(model["files"].items())
      ]
      self.answer(sizes)
    else:
      self.answer(self.hub.info(name))

  def do_HEAD(self):
    self.do_GET()


@contextlib.contextmanager
def serving(monkeypatch, cache):
  """Runs a hub with which huggingface_hub speaks, as one who may write; its cache is a new one."""
  hub = Hub()
  server = http.server.ThreadingHTTPServer(
      ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub})
  )
  endpoint = f"http://127.0.0.1:{server.server_port}"
  template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
  monkeypatch.setattr(constants, "ENDPOINT", endpoint)
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
  monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
  monkeypatch.setenv("HF_TOKEN", WRITER)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield hub
  finally:
    server.shutdown()
    server.server_close()
