#!/usr/bin/env python3
"""Silent TCP connections, held open and opened again when they are closed.

flood.py SECONDS COUNT SOURCE[,SOURCE...] TARGET:PORT[,TARGET:PORT...]

COUNT connections to each target, from the sources in turn. It refuses targets outside 10.77.0.0/24,
the network of these namespaces, and ends after SECONDS (at most 120) or with its stdin. The last line
of stdout says how many connections came up and how many of them were closed by the other side.
"""
import ipaddress
import random
import selectors
import socket
import sys
import time

NETWORK = ipaddress.ip_network("10.77.0.0/24")
MOST = 1_000
# From the end of a connection until it is opened again, in seconds.
AGAIN = 0.2


def connect(source, target):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.bind((source, 0))
    connection.connect_ex(target)
    return connection


def main(seconds, count, sources, targets):
    if any(ipaddress.ip_address(ip) not in NETWORK for ip, _ in targets):
        sys.exit(f"only addresses in {NETWORK} are flooded")
    if not 0 < seconds <= 120 or not 0 < count * len(targets) <= MOST:
        sys.exit(f"at most 120 s and {MOST} connections")
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    end = time.monotonic() + seconds
    # When to open which connection.
    due = [(0.0, sources[n % len(sources)], target) for target in targets for n in range(count)]
    opened = closed = 0
    told = False
    while time.monotonic() < end:
        now = time.monotonic()
        for when, source, target in [entry for entry in due if entry[0] <= now]:
            connection = connect(source, target)
            # Writable: it is up. Then only its end is of interest.
            selector.register(connection, selectors.EVENT_WRITE, (source, target))
        due = [entry for entry in due if entry[0] > now]
        if not told and opened >= count * len(targets) // 2:
            told = True
            print("up", flush=True)
        for key, _ in selector.select(timeout=0.05):
            if key.fileobj is sys.stdin:
                end = 0
                break
            connection = key.fileobj
            if key.events == selectors.EVENT_WRITE:
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    opened += 1
                    selector.modify(connection, selectors.EVENT_READ, key.data)
                    continue
            else:
                try:
                    if connection.recv(4_096):
                        continue
                except OSError:
                    pass
                closed += 1
            selector.unregister(connection)
            connection.close()
            # Spread, so that there is no time between two waves.
            due.append((time.monotonic() + AGAIN * random.uniform(0.5, 1.5), *key.data))
    print(f"opened {opened} closed {closed}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","),
         [(t.split(":")[0], int(t.split(":")[1])) for t in sys.argv[4].split(",")])
