#!/usr/bin/env python3
"""A mock of the admin endpoint with odd values, for hubctl. `mock.py PORT [CERTIFICATE KEY]`.

Streams of events end after 5 events, the second try to open one is refused with 503.
GET /sent tells what was sent to it.
"""
import json, ssl, sys, time, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, parse_qs, unquote

PORT = int(sys.argv[1])
HUB = "/some/hub"
N = {n: {"id": "12D3KooW" + n * 36 + s, "name": n} for n, s in (("a", "aXk7Kq9Z"), ("b", "b3fPq8Ty"))}
N["c"] = {"id": "12D3KooW" + "c" * 36 + "cc9ZtBcc", "name": "a-node-with-a-very-long-name-\x1b]0;x\x07-in-eu-central-1"}
N["d"] = {"id": "12D3KooW" + "e" * 36 + "dFFFFFFF", "name": "d"}
N["b2"] = {"id": "12D3KooW" + "d" * 36 + "bEEEEEEE", "name": "b"}
AT = "2026-11-23T01:44:00.123Z"
SENT, STREAMS, LOCK = [], [0], threading.Lock()


def node(key, **more):
    return {**N[key], "is_self": key == "a", "state": "alive", "addresses": ["/ip4/127.0.0.1/tcp/4001"],
            "incarnation": "18f3a", "started_at": AT, "uptime_seconds": 93784.4, "version": "0.1.0", "weight": 1, "labels": {"zone": key, "rack": "3\x1b[2J"},
            "children": 12, "share": 0.4, "load": {"queued": 3, "handled": 123456, "running_handovers": 0},
            "link": {"state": "up", "rtt_ms": 0.42}, **more}


NODES = [node("b", state="suspect", load=None, link={"state": "down", "by": N["c"], "rtt_ms": None}, suspected_by=[N["a"], N["c"]]), node("a", link={"state": "self", "rtt_ms": None}, draining=True, left={"children": 0, "first": []}),
         node("c", state="leaving", uptime_seconds=None, version=None, children=5, left={"children": 5, "first": [{"child": f"room/{i}", "reason": "prepare panics \x1b[2J"} for i in range(4)]}), node("b2", state="no\x1b[31mvel"),
         node("d", state="joining", children=0, load=None, missing=[{"node": N["b"], "unheard": N["d"]}, {"node": N["d"], "unheard": N["c"]}])]


def handover(i, status, **more):
    phases = [{"name": "offer", "at_ms": 0, "took_ms": 1.25}, {"name": "freeze", "at_ms": 1, "took_ms": 0.5},
              {"name": "wait", "at_ms": 1, "took_ms": 0.0}, {"name": "transfer", "at_ms": 1, "took_ms": None if status == "running" else 12.5}]
    if status == "done":
        phases.append({"name": "open", "at_ms": 15, "took_ms": 0.3})
    return {"id": f"room/{i}@1.5", "child": f"room/{i}", "kind": "room", "from": N["a"], "to": N["b"], "epoch": "1.5", "status": status,
            "reason": None, "bytes": 1234567, "started_at": AT, "took_ms": 14.6, "phases": phases, **more}


HANDOVERS = [handover("moving-now-with-a-rather-long-name", "running", took_ms=None, bytes=None), handover("lobby", "done"),
             handover("evil\u202e", "failed", reason="b did not answer the offer within 5 s \x1b[2J and then some more words")]


def child(i, **more):
    runtime = {"restarts": 0, "mailbox": 0, "handled": 123, "running_since": AT, "last_handover": handover(i, "done")}
    return {"id": f"room/{i:04}", "kind": "room", "state": "running", "nodes": [{**N["b"], "role": "passive"}, {**N["a"], "role": "active"}], "epoch": "1.4",
            "pinned": None, "tags": ["eu", "t\x07ag"], "metadata": {"owner": "x", "note\n": "long " * 30 + "\x9b2J"},
            "runtime": None if i % 3 == 0 else runtime, **more}


CHILDREN = [child(i, state=("running", "moving", "waiting", "failed", "orphaned")[i % 5]) for i in range(25)] + [child(0, id="漢字/" + "x" * 90, kind="kind-with-a-long-name")]


def parked(epoch, name, **more):
    return {"key": f"{epoch}~7~n~{name}", "child": name, "kind": "room", "node": N["b"], "epoch": epoch, "state_version": 1, "bytes": 1234, "parked_at": AT,
            "reason": "it was not merged by its kind \x1b[2J and then some more words", "holders": [N["a"], N["b"]], **more}


PARKED = [parked("1.0", "room/x"), parked("1.0", "twice"), parked("2.0", "twice", holders=[N["a"]]), parked("1.0", "漢字/" + "x" * 90)]


def event(n, level="info", text=None):
    return {"id": f"e-{n}", "at": AT, "type": "child_started", "node": N["a"], "child": "room/lobby", "level": level,
            "text": text or f"event {n}: room/lobby started on a", "fields": {}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): pass

    def answer(self, status, value, kind="application/json", **headers):
        body = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status, title, detail, **headers):
        self.answer(status, {"type": "about:blank", "title": title, "status": status, "detail": detail}, "application/problem+json", **headers)

    def listed(self, items, query, **more):
        limit, start = int(query.get("limit", ["100"])[0]), int(query.get("cursor", ["0"])[0])
        end = start + limit
        value = {"items": items[start:end], "total": len(items), "next_cursor": str(end) if end < len(items) else None, **more}
        tag = f'W/"{hash(json.dumps(value))}"'
        if self.headers.get("if-none-match") == tag:
            self.send_response(304); self.send_header("content-length", "0"); self.end_headers(); return
        self.answer(200, value, etag=tag)

    def handle_any(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        if not url.path.startswith(HUB + "/"):
            return self.answer(404, "", "text/plain")
        path = url.path[len(HUB):]
        if path == "/sent":
            return self.answer(200, SENT)
        with LOCK:
            SENT.append({"method": self.command, "path": path, "query": url.query, "body": body, "type": self.headers.get("content-type"), "action": self.headers.get("x-actix-hub"),
                         "token": self.headers.get("authorization"), "last_id": self.headers.get("last-event-id"), "if": self.headers.get("if-none-match")})
        parts = [unquote(part) for part in path.split("/")[1:]]
        if self.command == "GET":
            if parts == ["nodes"]: return self.listed(NODES, query)
            if parts == ["children"]:
                found = [c for c in CHILDREN if all(query.get(k, [c[k]])[0] == c[k] for k in ("kind", "state")) and query.get("text", [""])[0] in c["id"]]
                return self.listed(found, query)
            if parts == ["departed"]:
                told = {**N["d"], "how": "down", "at": AT, "came_back_at": None, "moved": 0, "recovered": 3, "begun_anew": 17, "parked": 1}
                return self.answer(200, {"items": [told], "unreachable": [N["c"]]})
            if parts == ["handovers"]:
                return self.listed([h for h in HANDOVERS if query.get("status", [h["status"]])[0] == h["status"]], query, unreachable=[N["b"]["id"], N["c"]])
            if parts == ["parked"]:
                found = [p for p in PARKED if query.get("child", [p["child"]])[0] == p["child"]]
                return self.listed(found, query, unreachable=[N["c"]])
            if parts == ["settings"]:
                return self.answer(200, json.dumps({"hub": "chat", "node": N["a"], "version": "0.1.0", "strategies": {"distribution": "ConsistentHashing"}, "settings": [{"name": "heartbeat", "value": "2 s", "default": "1 s", "changed": True}],
                                         "kinds": [{"name": "room", "hosted": True, "messages": ["room.say", "room.read", "room.a_long_name_of_a_message"], "state_version": 1, "oldest_state_version": 1}]}, indent=2))
            if parts == ["events"]: return self.events(query)
            if parts == ["events", "latest"]:
                told = [{**event(n, ("warn", "error")[n % 2]), "node": N["ab"[n % 2]]} for n in range(9, 0, -1)]
                return self.listed(told, query, unreachable=[N["c"]])
            if len(parts) == 3 and parts[2] == "state":
                if parts[1] == "secret": return self.problem(403, "Forbidden", "states are not shown")
                return self.answer(200, {"child": parts[1], "epoch": "1.4", "state_version": 2, "bytes": 1500, "diagnostic": None if parts[1] == "odd" else '{"said": "\x1b[2J"}', "json": None})
            if len(parts) == 2 and parts[0] == "children":
                if parts[1] == "slow": time.sleep(5)
                if parts[1] == "odd": return self.answer(200, "{\"id\": [}")
                if parts[1] == "moved": return self.answer(302, "", location="http://127.0.0.1:1/")
                if parts[1] == "busy": return self.problem(429, "Too Many Requests", "too many actions", retry_after="7")
                why = {"child": parts[1], "rule": "pinned", "text": "It was sent to b on purpose \x1b[31m and stays there. " * 3, "owner": N["a"], "belongs": None, "home": N["b"], "epoch": "1.4", "born": "1.0", "copied": "1.0",
                       "candidates": [{**N["a"], "takes_children": True, "reason": None}, {**N["c"], "takes_children": False, "reason": "leaving"}]}
                return self.answer(200, {**child(1, id=parts[1], pinned=N["c"]["id"], runtime=None), "spec": {"restart": "permanent", "restarts": 100, "within_seconds": 4.0, "args_bytes": 12}, "why": why,
                                         "history": [event(9, "error", "it was given up: \x1b[2J a long reason that goes on and on, over many more columns than there are"), event(8, "warn")]})
            return self.problem(404, "Not Found", "no such path")
        if self.headers.get("x-actix-hub") != "1": return self.problem(403, "Forbidden", "the header X-Actix-Hub is missing")
        dry = query.get("dry_run") == ["true"]
        if parts[-1] == "migrate":
            if "stuck" in parts[1]: return self.problem(409, "Conflict", "room/stuck stays on a:\n\x1b[31mb is full")
            return self.answer(200, {"dry_run": True, "text": "would move \x1b[31mfrom a to b", "from": N["a"], "to": N["b"]} if dry else {"outcome": "moved", "child": parts[1], "node": N["b"], "epoch": "1.6"})
        if parts[-1] == "release":
            return self.answer(200, {"dry_run": True, "text": "would be bound to a no more"} if dry else {"outcome": "released", "child": parts[1], "node": N["b"], "text": "x is bound to a \x1b[31mno more."})
        if parts[-1] == "apply":
            text = "It was put in place." if json.loads(body)["replace"] else "It was merged."
            return self.answer(200, {"dry_run": True, "key": parts[1], "child": "x", "text": "would apply \x1b[31m"} if dry else {"outcome": "applied", "key": parts[1], "child": "x", "text": text})
        if self.command == "DELETE" and parts[0] == "parked":
            return self.answer(200, {"dry_run": True, "key": parts[1], "child": "x", "text": "would discard"} if dry else {"outcome": "discarded", "key": parts[1], "child": "x", "text": "It is gone."})
        if parts[-1] in ("stay", "undrain"):
            return self.answer(200, {"dry_run": True, "text": "would take children"} if dry else {"outcome": "resumed", "node": N["a"], "children": 12, "text": "It takes children again."})
        if parts[-1] == "drain":
            return self.answer(200 if dry else 202, {"dry_run": True, "text": "would be emptied"} if dry else {"outcome": "draining", "node": N["a"], "children": 12})
        if parts[-1] == "leave":
            return self.answer(200 if dry else 202, {"dry_run": True, "text": "would hand 12 children over", "children": 12} if dry else {"outcome": "leaving", "node": parts[1], "children": 12})
        if self.command == "DELETE":
            if parts[1] == "cut" and not dry: self.connection.shutdown(2); return
            return self.answer(200, {"dry_run": True, "text": "would stop"} if dry else {"outcome": "stopped", "child": parts[1], "node": N["a"]})
        return self.answer(200, {"dry_run": True, "text": "would start", "node": N["a"]}) if dry else self.answer(201, {"outcome": "started", "child": json.loads(body)["id"], "node": N["a"], "epoch": "1.0"})

    def events(self, query):
        with LOCK:
            STREAMS[0] += 1
            nth = STREAMS[0]
        if nth % 3 == 2: return self.problem(503, "Service Unavailable", "the hub is stopped")
        last = self.headers.get("last-event-id")
        first = int(last[2:]) + 1 if last else int(query.get("replay", ["0"])[0])
        self.send_response(200); self.send_header("content-type", "text/event-stream"); self.end_headers()
        say = lambda text: (self.wfile.write(text.encode()), self.wfile.flush())
        if query.get("replay") == ["3"]: time.sleep(1.0)  # A proxy that has sent the head already.
        say("retry: 300\n\n: hello\n\n")
        replay = [] if last else range(int(query.get("replay", ["0"])[0]))
        if last: say('event: missed\ndata: {"count": 3}\n\n')
        for n in [*replay, *(range(first, first + 5) if last or "replay" in query else [])]:
            if n not in replay: time.sleep(0.4)
            say(f"id: e-{n}\nevent: hub\ndata: {json.dumps(event(n, ('info', 'warn', 'error')[n % 3], None if n % 4 else 'evil ' + chr(27) + '[2J' + chr(0x9b) + '31m'), ensure_ascii=False)}\n\n")
        if nth % 3 == 0: say("event: bye\ndata: {}\n\n")
        self.close_connection = True

    def do_GET(self):
        try:
            self.handle_any()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_POST = do_DELETE = do_GET


SERVER = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
if len(sys.argv) > 2:
    TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLS.load_cert_chain(sys.argv[2], sys.argv[3])
    SERVER.socket = TLS.wrap_socket(SERVER.socket, server_side=True)
SERVER.serve_forever()
