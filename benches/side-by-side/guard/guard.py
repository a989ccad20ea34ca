#!/usr/bin/env python3
"""What the guard costs on a clean network. See README.md."""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lab

# Two networks (/16), so that the upstreams are of two operators.
PLAIN, BELIEVED = "127.21.0.1", "127.22.0.1"
SERVER_CPU, OTHER_CPU = "0", "1"
BLOCK = 200
WINDOW = 64
PATIENCE_S = 5
TRUE, FORGED = "93.184.216.34", "31.13.94.10"
CACHED = 20_000

OFF = 'names = ["example.org"]\nupstream = "plain"\nprivate = false\nguard = "off"'
BY_ITSELF = 'names = ["example.org"]\nupstream = "believed"\nprivate = false\nguard = "enforce"'
BESIDE = 'names = ["example.org"]\nupstream = "plain"\nprivate = false\nguard = "enforce"'
KINDS = {"off": OFF, "off, again": OFF, "believed group": BY_ITSELF, "beside it": BESIDE}


def unbound(folder, address):
    return lab.unbound(folder / f"unbound-{address}.conf", address, """\
  local-zone: "example.org." redirect
  local-data: "example.org. 3600 IN A 93.184.216.34"
""")


def truename(folder, binary, address, route):
    # One server for all that is compared one by one: two are never alike.
    plain, believed = (BELIEVED, PLAIN) if route == BY_ITSELF else (PLAIN, BELIEVED)
    (folder / "run").mkdir(parents=True)
    (folder / "truename.toml").write_text(f"""
[server]
listen = ["{address}:53"]
workers = 1
[upstream.plain]
servers = ["{plain}"]
[upstream.believed]
servers = ["{believed}"]
[default]
upstream = "plain"
[guard]
references = "believed"
persist = false
[[route]]
{route}
[hosts]
files = []
[cache]
persist = false
[log]
format = "json"
""")
    return [binary, "run", "--config", str(folder / "truename.toml")]


def asker(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, 53))
    sock.settimeout(PATIENCE_S)
    return sock


def ask(sock, number, name):
    """Asks once; returns how long it took."""
    wire = lab.query(number, name)
    start = time.perf_counter()
    sock.send(wire)
    while True:
        reply = sock.recv(4096)
        if reply[:2] == wire[:2]:
            break
    took = time.perf_counter() - start
    if reply[3] & 15 or reply[6:8] == b"\0\0":
        sys.exit(f"{name}: no answer: {reply.hex()}")
    return took


def counters(run):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(run / "stats.sock"))
        sock.sendall(b"GET /stats HTTP/1.1\r\nHost: truename\r\nConnection: close\r\n\r\n")
        data = b""
        while part := sock.recv(65536):
            data += part
    return json.loads(data[data.index(b"{"): data.rindex(b"}") + 1])["counters"]


def wait_until_up(address):
    sock = asker(address)
    sock.settimeout(0.2)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            sock.send(lab.query(1, "up.example.org"))
            sock.recv(4096)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{address} does not answer")


def clean_path(daemons, questions, number):
    """Asks all daemons in turns, for names from a number on; returns the times of each."""
    times = {kind: [] for kind in daemons}
    while min(map(len, times.values())) < questions:
        for kind, (sock, _) in daemons.items():
            for _ in range(BLOCK):
                number += 1
                times[kind].append(ask(sock, number, f"n{number}.example.org"))
    return times


def cached(sock, questions):
    """Asks for one cached name, a window of questions outstanding."""
    wire = lab.query(7, "cached.example.org")
    left, outstanding = questions, 0
    while left or outstanding:
        while left and outstanding < WINDOW:
            sock.send(wire)
            left, outstanding = left - 1, outstanding + 1
        sock.recv(4096)
        outstanding -= 1


def answer_in_races(address, replies, delay_s):
    """Answers every question with these addresses, one reply each, from a thread of its own."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 53))

    def serve():
        while True:
            message, client = sock.recvfrom(4096)
            end = 12
            while message[end]:
                end += 1 + message[end]
            question = message[12: end + 5]
            time.sleep(delay_s)
            for given in replies:
                head = message[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
                record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 300, 4) + socket.inet_aton(given)
                sock.sendto(head + question + record, client)

    threading.Thread(target=serve, daemon=True).start()


def races(address, count):
    """Asks for new names that a forged reply is first for; returns how many were answered with what."""
    sock, seen = asker(address), {}
    for first in range(0, count, WINDOW):
        numbers = range(first, min(first + WINDOW, count))
        for number in numbers:
            sock.send(lab.query(number, f"race{number}.example.org"))
        for _ in numbers:
            reply = sock.recv(4096)
            given = socket.inet_ntoa(reply[-4:]) if reply[6:8] == b"\0\1" and not reply[11] else f"rcode {reply[3] & 15}"
            if reply[10:12] != b"\0\0":
                # An OPT record behind the answer.
                at = 12
                while reply[at]:
                    at += 1 + reply[at]
                given = socket.inet_ntoa(reply[at + 17: at + 21]) if reply[6:8] == b"\0\1" else given
            seen[given] = seen.get(given, 0) + 1
    return seen


def instructions(folder, address, pid):
    control = lambda *what: subprocess.run(["callgrind_control", *what, str(pid)], check=True, stdout=subprocess.DEVNULL)
    sock = asker(address)
    sock.settimeout(60)
    cached(sock, 2000)
    control("-z")
    cached(sock, CACHED)
    control("-d")
    dumps = sorted(folder.glob("callgrind.out.*"), key=os.path.getmtime)
    text = dumps[-1].read_text(errors="replace")
    total = re.search(r"^(?:totals|summary): (\d+)", text, re.M)
    return int(total[1]) / CACHED


def inside(arguments):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    started = []

    def start(command, cpu, **more):
        started.append(subprocess.Popen(["taskset", "-c", cpu, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more))
        return started[-1]

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        try:
            if arguments.races:
                answer_in_races(PLAIN, [FORGED, TRUE], 0)
                answer_in_races(BELIEVED, [TRUE], 0.0005)
                own = folder / "races"
                env = {**os.environ, "RUNTIME_DIRECTORY": str(own / "run"), "STATE_DIRECTORY": str(own / "run")}
                start(truename(own, arguments.binary, "127.30.0.1", BESIDE), SERVER_CPU, env=env)
                wait_until_up("127.30.0.1")
                seen = races("127.30.0.1", arguments.races)
                print(f"{arguments.races} races that the forged reply wins: {seen.get(TRUE, 0)} true, {seen.get(FORGED, 0)} forged, others: "
                      f"{ {given: count for given, count in seen.items() if given not in (TRUE, FORGED)} }")
                return
            for address in (PLAIN, BELIEVED):
                start(unbound(folder, address), OTHER_CPU)
                wait_until_up(address)
            kinds = {kind: KINDS[kind] for kind in KINDS if not (arguments.callgrind and kind.endswith("again"))}
            daemons = {}
            for at, (kind, route) in enumerate(kinds.items()):
                own, address = folder / str(at), f"127.30.0.{at + 1}"
                command = truename(own, arguments.binary, address, route)
                if arguments.callgrind:
                    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={own}/callgrind.out.%p", *command]
                env = {**os.environ, "RUNTIME_DIRECTORY": str(own / "run"), "STATE_DIRECTORY": str(own / "run")}
                process = start(command, SERVER_CPU, env=env)
                wait_until_up(address)
                if arguments.callgrind:
                    print(f"{kind:16} {instructions(own, address, process.pid):8.1f} instructions a cached answer", flush=True)
                daemons[kind] = (asker(address), own / "run")
            if arguments.callgrind:
                return
            clean_path(daemons, BLOCK * 5, 0)
            before = {kind: counters(run) for kind, (_, run) in daemons.items()}
            times = clean_path(daemons, arguments.questions, 1_000_000)
            # What is judged behind answers has its turn.
            time.sleep(2)
            print(f"{'guard':16} {'p50 µs':>8} {'p90 µs':>8} {'queries':>8} {'judged':>8}")
            for kind, (_, run) in daemons.items():
                after = counters(run)
                grown = lambda name: after[name] - before[kind][name]
                judged = sum(grown(name) for name in after if name.startswith("guard_") and name in (
                    "guard_consistent_total", "guard_benign_divergent_total", "guard_undecidable_total"))
                p50, p90 = (statistics.quantiles(times[kind], n=10)[at] * 1e6 for at in (4, 8))
                count = len(times[kind])
                print(f"{kind:16} {p50:8.1f} {p90:8.1f} {grown('upstream_queries_total') / count:8.3f} {judged / count:8.3f}")
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--races", type=int, default=0, metavar="COUNT", help="how often the true answer is served, of so many questions whose first reply is forged; nothing else")
    parser.add_argument("--questions", type=int, default=10_000, help="of each daemon")
    parser.add_argument("--callgrind", action="store_true", help="count instructions of cached answers, and nothing else")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.binary = str(Path(arguments.binary).resolve())
    needed = ["unbound", "unshare", "ip", "taskset"] + (["valgrind", "callgrind_control"] if arguments.callgrind else [])
    if missing := [name for name in needed if not shutil.which(name)]:
        sys.exit(f"not installed: {', '.join(missing)}")
    if arguments.inside:
        return inside(arguments)
    again = [sys.executable, __file__, arguments.binary, "--inside", "--questions", str(arguments.questions)]
    again += ["--races", str(arguments.races)]
    again += ["--callgrind"] if arguments.callgrind else []
    sys.exit(subprocess.run(["unshare", "--user", "--map-root-user", "--net", *again]).returncode)


if __name__ == "__main__":
    main()
