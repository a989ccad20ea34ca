#!/usr/bin/env python3
"""What looking inside costs: `/stats` under load, instructions of a cached answer and of a scrape, memory. See README.md."""
import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SERVER, NAME = "127.0.0.30", "www.corp.example"
# The server under test has this processor, whoever asks the other.
SERVER_CPU, OTHER_CPU = "0", "1"
# How often `/stats` is asked for under load: a hundred times what Prometheus does.
SCRAPE_EVERY_S = 0.02
# Scrapes and answers of which instructions are counted.
SCRAPES, ANSWERS = 50, 50_000


def configuration(folder, sockets=True, recent=4096):
    at = {name: f"{folder}/{name}.sock" if sockets else "off" for name in ("stats", "control")}
    path = folder / "truename.toml"
    path.write_text(f"""
[server]
listen = ["{SERVER}:53"]
workers = 1
[upstream.system]
servers = ["127.0.0.21"]
[hosts]
files = []
[cache]
persist = false
[stats]
socket = "{at['stats']}"
control = "{at['control']}"
recent_queries = {recent}
[log]
format = "json"
[[zone]]
name = "corp.example"
records = [{{ name = "www", type = "A", value = "192.0.2.7" }}]
""")
    return path


class Server:
    def __init__(self, folder, binary, before=(), **configured):
        self.log = open(folder / "log", "a")
        command = ["taskset", "-c", SERVER_CPU, *before, binary, "run", "--config", configuration(folder, **configured)]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while not answers():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{binary} does not answer:\n{(folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def memory_kib(self):
        """Resident memory, and how much of it is the process's own."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("VmRSS", "RssAnon")]


def answers():
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split("."))
    query = bytes.fromhex("126701000001000000000000") + labels + bytes.fromhex("0000010001")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        try:
            sock.sendto(query, (SERVER, 53))
            return sock.recv(4096)[7] > 0
        except OSError:
            return False


def get(path, target):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        octets = bytearray()
        while piece := sock.recv(1 << 16):
            octets += piece
    assert octets.startswith(b"HTTP/1.1 200"), octets[:200]


def load(folder, *words):
    """Asks for the one name; returns how many answers there were and how many a second."""
    names = folder / "names.txt"
    names.write_text(f"{NAME} A\n")
    command = ["taskset", "-c", OTHER_CPU, "dnsperf", "-s", SERVER, "-d", names, "-c", "16", "-T", "1", "-q", "256", *words]
    text = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    find = lambda pattern: float(re.search(pattern, text)[1])
    return int(find(r"Queries completed:\s+(\d+)")), find(r"Queries per second:\s+([\d.]+)"), int(find(r"Queries lost:\s+(\d+)"))


def times_under_load(folder, binary, rate, seconds):
    """Times of `/stats` in ms, with nothing else to do and while so many are answered; and how many were."""
    with Server(folder, binary):
        times, over = {}, threading.Event()

        def scrape(of):
            while not over.is_set():
                begin = time.perf_counter()
                get(folder / "stats.sock", "/stats")
                of.append((time.perf_counter() - begin) * 1e3)
                over.wait(SCRAPE_EVERY_S)

        def measured(name, work):
            # The work on a thread of its own: only the first one is sure of its processor (`be_punctual`).
            over.clear()
            done = []
            thread = threading.Thread(target=lambda: (done.append(work()), over.set()))
            thread.start()
            scrape(times.setdefault(name, []))
            thread.join()
            return done[0]

        measured("idle", lambda: time.sleep(seconds))
        answered = measured("busy", lambda: load(folder, "-Q", rate, "-l", seconds))
        return times, answered


def be_punctual():
    """Lets the one who takes times run as soon as there is something to do, so that only the server's part is measured.
    What it starts is not favoured."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("not permitted to take a processor at once: times contain waiting for one", file=sys.stderr)


def instructions(folder, binary, work, **configured):
    """Counts instructions in user space while something is done."""
    counted = folder / "callgrind.out"
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counted}", "--instr-atstart=no"]
    with Server(folder, binary, valgrind, **configured) as server:
        work(warm=True)
        control = lambda word: subprocess.run(["callgrind_control", "-i", word, str(server.process.pid)], check=True,
                                              capture_output=True)
        control("on")
        result = work(warm=False)
        control("off")
    total = sum(int(line.split()[1]) for line in counted.read_text().splitlines() if line.startswith("totals:"))
    return total / result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path, help="truename, a release build")
    parser.add_argument("--rate", type=int, default=100_000, help="cached answers a second")
    parser.add_argument("--seconds", type=float, default=10, help="length of one measurement")
    parser.add_argument("--parts", default="times,memory,instructions")
    arguments = parser.parse_args()
    if "INSIDE_INSIDE" not in os.environ:
        be_punctual()
        # A machine of our own: namespaces, as whatever user this is.
        os.execvpe("unshare", ["unshare", "--user", "--map-root-user", "--net", sys.executable, *sys.argv],
                   {**os.environ, "INSIDE_INSIDE": "1"})
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.sched_setaffinity(0, {int(OTHER_CPU)})
    binary, parts = arguments.binary.resolve(), arguments.parts.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "times" in parts:
            times, (_, rate, lost) = times_under_load(folder, binary, arguments.rate, arguments.seconds)
            for when, of in times.items():
                of.sort()
                quantile = lambda q: of[min(len(of) - 1, int(len(of) * q))]
                print(f"/stats, {when}: p50 {quantile(0.5):.2f} ms, p99 {quantile(0.99):.2f} ms, worst {of[-1]:.2f} ms, "
                      f"{len(of)} times")
            print(f"answered meanwhile: {rate:,.0f} a second, {lost} lost")
        if "memory" in parts:
            for sockets in (False, True):
                with Server(folder, binary, sockets=sockets) as server:
                    (rss, own), what = server.memory_kib(), "with the sockets" if sockets else "without sockets"
                    print(f"{what}, at rest: {rss} KiB resident, {own} KiB of it its own")
                    if sockets:
                        for target in ("/stats", "/metrics") * 10:
                            get(folder / "stats.sock", target)
                        rss, own = server.memory_kib()
                        print(f"{what}, after 20 scrapes: {rss} KiB resident, {own} KiB of it its own")
        if "instructions" in parts:
            ask = lambda warm: load(folder, "-n", 5000 if warm else ANSWERS)[0]
            hits = {recent: statistics.median(instructions(folder, binary, ask, recent=recent) for _ in range(2))
                    for recent in (0, 4096)}
            print(f"a cached answer: {hits[0]:.0f} instructions, {hits[4096]:.0f} with the last questions remembered: "
                  f"{100 * (hits[4096] / hits[0] - 1):.1f} % more")
            for target in ("/stats", "/metrics"):
                def scrape(warm, target=target):
                    for _ in range(5 if warm else SCRAPES):
                        get(folder / "stats.sock", target)
                    return SCRAPES
                cost = instructions(folder, binary, scrape)
                share = 100 * cost / (hits[4096] * arguments.rate)
                print(f"{target}: {cost:,.0f} instructions; once a second {share:.2f} % of {arguments.rate:,} answers")


if __name__ == "__main__":
    main()
