#!/usr/bin/env python3
"""Runs hubctl against mock.py: exit codes, what was sent, and what reaches a terminal."""
import fcntl, json, os, pty, re, signal, socket, struct, subprocess, sys, tempfile, termios, time, unicodedata, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
HUBCTL = os.environ.get("HUBCTL", os.path.join(HERE, "../../target/debug/examples/hubctl"))


def free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


PORT = free()
BASE = f"http://127.0.0.1:{PORT}/some/hub"
MOCK = subprocess.Popen([sys.executable, os.path.join(HERE, "mock.py"), str(PORT)])
ENV = {**os.environ, "HUBCTL_URL": BASE, "HUBCTL_TOKEN": "0123456789abcdef"}
ENV.pop("NO_COLOR", None)
CHECKS = 0


def check(holds, *told):
    global CHECKS
    CHECKS += 1
    if not holds:
        raise SystemExit(f"FAILED: {told}")


def plain(*args, code=0):
    done = subprocess.run([HUBCTL, *args], env=ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    check(done.returncode == code, args, done.returncode, done.stdout, done.stderr)
    for text in (done.stdout, done.stderr):
        check(not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")], args, text)
    return done


def terminal(width, *args, types=b"", interrupt=None):
    """In a terminal: everything it was sent, and the exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        time.sleep(0.1)
        os.execve(HUBCTL, [HUBCTL, *args], ENV)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    out, begin = b"", time.time()
    while True:
        if types and b"[y/N]" in out:
            os.write(fd, types)
            types = b""
        if interrupt and time.time() - begin > interrupt:
            os.kill(pid, signal.SIGINT)
            interrupt = None
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError:
            break
        if not part:
            break
        out += part
    return out.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def columns(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def sent():
    return json.load(urllib.request.urlopen(BASE + "/sent"))


try:
    time.sleep(0.5)
    for width in (30, 40, 80, 120, 200):
        for args in (["nodes"], ["children"], ["children", "--all", "--limit", "7"], ["handovers"], ["parked", "list"], ["departed"], ["settings"], ["child", "room/x"]):
            out, code = terminal(width, *args)
            check(code == 0, args, out)
            check("\x1b[1m" in out, "colours on a terminal", args)
            bare = re.sub(r"\x1b\[[0-9;]*m", "", out).replace("\r\n", "\n")
            check("\x1b" not in bare and "\x9b" not in bare and "\u202e" not in bare, args, bare)
            for line in bare.split("\n"):
                if not line.startswith("unknown, no answer"):
                    check(columns(line) <= width, width, args, line)
    check("\x1b" not in terminal(80, "nodes", "--color", "never")[0], "--color never")
    check("?" in plain("nodes").stdout.splitlines()[3], "unknown load")
    told = plain("nodes").stdout
    for words in ("d …dFFFFFFF is not in: b …b3fPq8Ty does not hear d …dFFFFFFF", "b …b3fPq8Ty is suspected by a …aXk7Kq9Z",
                  "messages for b …b3fPq8Ty go by way of a-node", "joining", "drained", "5 children left on a-node", "room/2 (prepare panics \\u{1b}[2J), 2 more"):
        check(words in told, f"{words!r} is told of the nodes: {told}")
    told = plain("departed")
    check(re.search(r"d …dFFFFFFF +down +\S+ +no +17 +3 +0 +1", told.stdout) and "a-node" in told.stderr, told.stdout, told.stderr)
    check("\x1b[" in subprocess.run([HUBCTL, "nodes", "--color", "always"], env=ENV, capture_output=True, text=True).stdout, "always")

    for line in plain("--json", "children", "--all", "--limit", "9").stdout.splitlines():
        json.loads(line)
    check(len(json.loads(plain("--json", "settings").stdout)["kinds"]) == 1, "pretty JSON on one line")
    plain("child", "odd", code=1), plain("child", "moved", code=1), plain("child", "busy", code=1)
    plain("--timeout", "0.3", "child", "slow", code=1), plain("--url", "http://127.0.0.1:1/x", "nodes", code=1)
    plain("nods", code=2), plain("--token-file", "/nonexistent", "nodes", code=2), plain("--token", "a b", "nodes", code=2)
    check("a b" not in plain("--token", "a b", "nodes", code=2).stderr, "a wrong token is not shown")

    plain("handovers", "--all", "--limit", "2"), check("limit=2&cursor=" in sent()[-1]["query"], sent()[-1])
    all_of_them = len(json.loads(plain("--json", "handovers").stdout)["items"])
    pages = plain("--json", "handovers", "--all", "--limit", "2").stdout.splitlines()
    check(sum(len(json.loads(page)["items"]) for page in pages) == all_of_them > 2, "all pages", pages)
    check("--all shows all" in plain("handovers", "--limit", "1").stderr, "more is told")
    told = plain("state", "room/x").stdout
    check("version 2" in told and "said" in told, told)
    plain("state", "secret", code=1), check("not one value" in plain("state", "odd").stdout, "no CBOR")
    check("parked states of" in plain("parked", "list").stderr, "who did not tell")
    check("version 2" in plain("parked", "show", "room/x").stdout and sent()[-1]["path"] == "/parked/1.0~7~n~room%2Fx/state", sent()[-1])
    check("name one by its key" in plain("parked", "discard", "twice", "--yes", code=2).stderr, "which one?")
    check("applied: It was put in place." in plain("parked", "apply", "1.0~7~n~twice", "--replace", "--yes").stdout, "applied")
    check(sent()[-1]["path"] == "/parked/1.0~7~n~twice/apply" and json.loads(sent()[-1]["body"]) == {"replace": True}, sent()[-1])
    check("discarded: room/x" in plain("parked", "discard", "room/x", "--yes").stdout, "discarded")
    plain("start", "x", "--kind", "k", "--restart", "transient", "--yes")
    check(json.loads(sent()[-1]["body"])["restart"] == "transient", sent()[-1])

    with tempfile.TemporaryDirectory() as there:
        at = lambda name: os.path.join(there, name)
        openssl = lambda *args: subprocess.run(["openssl", *args], check=True, capture_output=True)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *key, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=a private authority")
        openssl("req", "-x509", *key, "-keyout", at("key"), "-out", at("cert"), "-subj", "/CN=node", "-CA", at("ca.pem"), "-CAkey", at("ca.key"),
                "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1")
        port = free()
        mock = subprocess.Popen([sys.executable, os.path.join(HERE, "mock.py"), str(port), at("cert"), at("key")])
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0: break
                time.sleep(0.1)
            url = ["--url", f"https://127.0.0.1:{port}/some/hub"]
            check("certificate" in plain(*url, "nodes", code=1).stderr, "nobody vouches for it")
            check(len(plain(*url, "--ca-file", at("ca.pem"), "nodes").stdout.splitlines()) == 10, "a private authority")
            plain(*url, "--ca-file", at("key"), "nodes", code=2), plain(*url, "--ca-file", at("none"), "nodes", code=2)
        finally:
            mock.terminate()

    ENV["HUBCTL_CA_FILE"] = ""
    plain("nodes")
    del ENV["HUBCTL_CA_FILE"]

    before = len(sent())
    for args in (["stop", "x"], ["start", "x", "--kind", "k"], ["migrate", "x", "a"], ["release", "x"], ["leave", "a"], ["stay", "a"], ["drain", "a"], ["undrain", "a"]):
        plain(*args, code=2)
    check(len(sent()) == before, "nothing is sent if nobody can be asked")
    plain("stop", "a/../b é%", "--yes")
    last = sent()[-1]
    check((last["path"], last["query"], last["action"]) == ("/children/a%2F..%2Fb%20%C3%A9%25", "", "1"), last)
    check(last["token"] == "Bearer 0123456789abcdef", last)
    plain("stop", "x", "--dry-run")
    check(sent()[-1]["query"] == "dry_run=true", sent()[-1])
    plain("migrate", "stuck", "aXk7Kq9Z", "--yes", code=1), plain("migrate", "x", "b", "--yes", code=2)
    check("released: x is bound to a" in plain("release", "x", "--yes").stdout, "a release")
    check(sent()[-1]["path"] == "/children/x/release", sent()[-1])
    check("may have been done" in plain("stop", "cut", "--yes", code=1).stderr, "an answer that was cut off")
    for types, code, last in ((b"n\n", 1, "dry_run=true"), (b"y\n", 0, ""), (b"\x04", 1, "dry_run=true")):
        out, ended = terminal(80, "leave", "a", types=types)
        check(ended == code and "would hand 12 children over" in out, types, ended, out)
        check(sent()[-1]["query"] == last, types, sent()[-1])

    for action, words in (("stay", "resumed: It takes"), ("drain", "draining: a …aXk7Kq9Z hands 12 children over"), ("undrain", "resumed: It takes")):
        check(words in plain(action, "aXk7Kq9Z", "--yes").stdout, action)
        last = sent()[-1]
        check((last["method"], last["path"], last["action"]) == ("POST", f"/nodes/12D3KooW{'a' * 36}aXk7Kq9Z/{action}", "1"), last)
        check("would" in plain(action, "a", "--dry-run").stdout, action)
        check(sent()[-1]["query"] == "dry_run=true", sent()[-1])

    told = plain("events", "--all-nodes", "--replay", "4", "--level", "warn", "--contains", "a b", "--type", "node_down", "--child", "x")
    check(sent()[-1]["path"] == "/events/latest" and sent()[-1]["query"] == "level=warn&text=a%20b&child=x&type=node_down&limit=4", sent()[-1])
    lines = told.stdout.splitlines()
    check(len(lines) == 4 and "event 9:" in lines[-1] and "(seen by b …b3fPq8Ty)" in lines[-1], "the latest last, with who saw it", lines)
    check("events" in told.stderr, "who did not tell", told.stderr)
    plain("events", "--level", "loud", code=2), plain("events", "--all-nodes", "--follow", code=2)
    opened = lambda: [one["last_id"] for one in sent() if one["path"] == "/events"]
    check(len(plain("events", "--replay", "3", "--json").stdout.splitlines()) == 3, "replay")
    plain("events", code=1)  # The second stream is refused.
    out, code = terminal(80, "watch", interrupt=3.5)
    check(code == 0 and out.startswith("\x1b[?1049h") and out.endswith("\x1b[?25h\x1b[?1049l"), code, out[-80:])
    check(opened()[-2:] == [None, "e-24"], "the third stream said bye; the fourth goes on behind it", opened())
    check(any(one["if"] for one in sent()), "If-None-Match")
    while len(opened()) % 3:
        urllib.request.urlopen(BASE + "/events?replay=0") if len(opened()) % 3 != 1 else plain("events", code=1)
    following = subprocess.Popen([HUBCTL, "events", "-f", "--replay", "2"], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5.6)
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=5)
    check(following.returncode == 0, following.returncode)
    check("the events broke off" in err and "503" in err and "connected again" in err and "3 events are not" in err, err)
    check(opened()[-2:] == ["e-6", "e-6"], opened())
    check("event 7:" in out and "\x1b" not in out, out)
    print(f"{CHECKS} passed, 0 failed")
finally:
    MOCK.terminate()
