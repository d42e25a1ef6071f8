"""A node that runs in a namespace, and is asked by lines of JSON."""
import json
import os
import signal
import subprocess
import threading
import time

PORT = 4001
SECRET = "5f1d" * 16
START = 20


class Unanswered(Exception):
    """A node did not answer in time, or has ended."""


class Node:
    """One run of the process of a node. Commands may be asked from several threads."""

    def __init__(self, binary, host, log, listen=None, seeds=(), key_file=None, deployed=None):
        """`deployed`: the variables that describe it, in the place of options."""
        self.name = host.name
        self.host = host
        self.log = log
        self.id = None
        self.events = []
        self._answers = {}
        self._asked = 0
        self._first = None
        self._ended = False
        # How it has ended by a signal, if it was deployed.
        self.last = None
        self._changed = threading.Condition()
        command = [binary, "--name", self.name]
        if listen:
            command += ["--listen", f"/ip4/{listen}/tcp/{PORT}"]
        for seed in seeds:
            command += ["--seed", seed]
        if key_file:
            command += ["--key-file", key_file]
        environment = dict(os.environ, NAMESPACES_SECRET=SECRET)
        environment.setdefault("RUST_LOG", "info")
        if deployed:
            command += ["--deployed", f"127.0.0.1:{deployed['SERVICE_ADMIN'].rsplit(':', 1)[1]}"]
            environment.update({name: value for name, value in deployed.items() if name.startswith("HUB_")})
        with open(log, "ab") as file:
            self.process = host.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=file, text=True, bufsize=1, env=environment)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                told = {"error": f"no JSON: {line!r}"}
            with self._changed:
                if "event" in told:
                    self.events.append((time.monotonic(), told))
                elif "ended" in told:
                    self.last = told
                elif "id" in told:
                    self._answers[told["id"]] = told
                elif self._first is None:
                    self._first = told
                    self.id = told.get("node")
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def started(self, within=START):
        """Waits until the hub has started."""
        with self._changed:
            self._changed.wait_for(lambda: self._first or self._ended, within)
            if not self.id:
                raise Unanswered(f"{self.name} did not start: {self._first}")
        return self

    def say(self, do, **arguments):
        """Sends a command; `answer` has what it is answered."""
        with self._changed:
            self._asked += 1
            ident = self._asked
        try:
            self.process.stdin.write(json.dumps({"id": ident, "do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise Unanswered(f"{self.name} has ended, {do} was not asked") from None
        return ident

    def answer(self, ident, within):
        with self._changed:
            self._changed.wait_for(lambda: ident in self._answers or self._ended, within)
            told = self._answers.pop(ident, None)
        if told is None:
            raise Unanswered(f"{self.name} gave no answer within {within:.0f} s")
        return told

    def ask(self, do, within=10, **arguments):
        return self.answer(self.say(do, **arguments), within)

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM, twice, as some supervisors send it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)

    def end_of_process(self, within):
        """Its exit status, or nothing if it has not ended."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def ended(self, within):
        """Its exit status and how it has ended, both nothing if it has not."""
        status = self.end_of_process(within)
        with self._changed:
            # What it said may still be read.
            self._changed.wait_for(lambda: self._ended, 5)
            return status, self.last

    def seen(self, *names):
        """The events of these names so far."""
        with self._changed:
            return [told for _, told in self.events if told["event"] in names]

    def named(self, name):
        """The ids of nodes of this name that have come in."""
        return {told["node"] for told in self.seen("NodeJoined") if f'"{name}"' in told["text"]}


class Watch(threading.Thread):
    """How long nodes are not settled, looked at ten times a second."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self._nodes = nodes
        self._since = {}
        self._stopped = threading.Event()
        self.longest = 0.0
        self.sum = 0.0

    def run(self):
        last = time.monotonic()
        while not self._stopped.wait(0.1):
            unsettled = False
            for node in self._nodes:
                try:
                    settled = node.ask("status", 2).get("settled")
                except Unanswered:
                    settled = False
                if settled:
                    self._since.pop(node, None)
                else:
                    unsettled = True
                    since = self._since.setdefault(node, time.monotonic())
                    self.longest = max(self.longest, time.monotonic() - since)
            now = time.monotonic()
            if unsettled:
                self.sum += now - last
            last = now

    def stop(self):
        self._stopped.set()
        self.join(10)
