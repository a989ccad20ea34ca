#!/usr/bin/env python3
"""What happens to clients while things go wrong. See README.md."""
import argparse
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ask

HERE = Path(__file__).resolve().parent
PORT, UP_PORT = 5353, 5300
SERVER_CPU, LOAD_CPU = "0", "1"
CACHED = [f"c{n}.pkg.example.net" for n in range(20)]
LOCAL = "www.corp.example.net"


def stop(process):
    """Ends a process that this program started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Upstream:
    def __init__(self, address, *flags):
        command = ["taskset", "-c", LOAD_CPU, sys.executable, HERE / "upstream.py", address, str(UP_PORT), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def dies(self):
        self.process.send_signal(signal.SIGUSR1)

    def returns(self):
        self.process.send_signal(signal.SIGUSR2)


class Server:
    """One server under test, with its upstreams."""

    def __init__(self, name, folder, index, single=False, delay_ms=20):
        self.name, self.address = name, f"127.0.{index}.1"
        ups = [f"127.0.{index}.21"] + ([] if single else [f"127.0.{index}.22"])
        self.dir = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        values = {"addr": self.address, "port": PORT, "up1": ups[0], "up2": ups[-1], "upport": UP_PORT, "dir": self.dir}
        fill = lambda text: re.sub(r"\{\{(\w+)\}\}", lambda m: str(values[m[1]]), text)
        for template in folder.iterdir():
            lines = template.read_text().splitlines(True)
            text = "".join(line for line in lines if not (single and "{{up2}}" in line))
            (self.dir / template.name).write_text(fill(text))
        self.command = ["taskset", "-c", SERVER_CPU, *shlex.split((self.dir / "command").read_text())]
        self.upstreams = [Upstream(up, "--delay-ms", str(delay_ms)) for up in ups]
        self.process = None
        self.start()

    def start(self):
        log = open(self.dir / "output", "ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.dir)

    def first_answer(self):
        """Waits until the local name is answered; returns the monotonic time of that."""
        for _ in range(10_000):
            rows = ask.ask(self.address, PORT, 10_000, 0.0001, 0.001, [LOCAL])
            if rows[0][1] == 0:
                return time.monotonic()
            if self.process.poll() is not None:
                break
        raise RuntimeError(f"{self.name} gives no answer: {(self.dir / 'output').read_text()[-1000:]}")

    def ask(self, rate, seconds, names, timeout=8.0):
        """Asks from a process of its own; returns it, for `result`."""
        command = ["taskset", "-c", LOAD_CPU, sys.executable, HERE / "ask.py", self.address, str(PORT)]
        command += [str(rate), str(seconds), str(timeout), *names]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def flood(self, kind, rate, seconds):
        command = ["taskset", "-c", LOAD_CPU, sys.executable, HERE / "flood.py", self.address, str(PORT), kind, str(rate), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def warm(self):
        result(self.ask(100, len(CACHED) / 100, CACHED))

    def rss_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def switches(self):
        """Voluntary context switches of all threads: each ends one wake-up."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text())[1])
        return total

    def stop(self):
        for process in [self.process, *(up.process for up in self.upstreams)]:
            stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)


def result(process):
    out, _ = process.communicate(timeout=120)
    return json.loads(out)


def flooded(kind, rate, dead=False):
    def row(server, args):
        server.warm()
        if dead:
            for up in server.upstreams:
                up.dies()
        asked = server.ask(200, args.seconds, CACHED)
        flood = server.flood(kind, rate, args.seconds)
        r, sent = result(asked), result(flood)
        r.update(rss_mib=server.rss_mib(), flood_per_s=sent["sent"] / sent["seconds"])
        if dead:
            # New names, from the moment the upstreams are back.
            for up in server.upstreams:
                up.returns()
            back = time.monotonic()
            while time.monotonic() < back + 20:
                if ask.ask(server.address, PORT, 100, 0.01, 1.0, [f"back{time.monotonic_ns()}.pkg.example.net"])[0][1] == 0:
                    break
            r["new_names_after_s"] = time.monotonic() - back
        return r
    return row


def slow(wait_ms):
    def row(server, args):
        first = result(server.ask(1, 1, [f"wait{wait_ms}-first.pkg.example.net"], 15))
        slow_ones = server.ask(5, args.seconds, [f"wait{wait_ms}-{{n}}.pkg.example.net"], 15)
        others = server.ask(50, args.seconds, ["o{n}.pkg.example.net"], 15)
        r, o = result(slow_ones), result(others)
        r["answered"] += first["answered"]
        r["sent"] += first["sent"]
        return {**r, "others_failed": o["sent"] - o["answered"], "others_worst_ms": o["worst_ms"]}
    return row


def stale(server, args):
    """A name that was cached, its TTL over, all upstreams silent."""
    names = [f"ttl1-{n}.pkg.example.net" for n in range(10)]
    result(server.ask(50, 0.2, names))
    time.sleep(2.5)
    for up in server.upstreams:
        up.dies()
    return result(server.ask(10, 1, names, 15))


def reload(server, args):
    """500 questions a second, cached, local and new in turn, over five reloads."""
    server.warm()
    asked = server.ask(500, args.seconds, [CACHED[0], LOCAL, "r{n}.pkg.example.net"])
    for _ in range(5):
        time.sleep(args.seconds / 6)
        server.process.send_signal(signal.SIGHUP)
    return result(asked)


def killed(server, args):
    """kill -9 and a start at once: until the first answer."""
    times = []
    for _ in range(5):
        begun = time.monotonic()
        server.process.kill()
        server.process.wait()
        server.start()
        times.append(1000 * (server.first_answer() - begun))
    return {"p50_ms": statistics.median(times), "worst_ms": max(times)}


def idle(server, args):
    """Wake-ups a minute, once what the last questions have left behind is over."""
    server.warm()
    time.sleep(15)
    before, begun = server.switches(), time.monotonic()
    time.sleep(args.idle_seconds)
    return {"wakeups_per_min": (server.switches() - before) * 60 / (time.monotonic() - begun), "rss_mib": server.rss_mib()}


def start(server, args):
    return {"rss_mib": server.rss_mib()}


# Name of the row, what it does, how the server and its upstreams are set up.
ROWS = {
    "start": (start, {}),
    "idle": (idle, {}),
    "single upstream needs 1.5 s": (slow(1500), {"single": True, "delay_ms": 0}),
    "single upstream needs 4 s": (slow(4000), {"single": True, "delay_ms": 0}),
    "both dead, name was cached": (stale, {}),
    "50,000 garbage packets/s": (flooded("garbage", 50_000), {}),
    "10,000 random names/s": (flooded("names", 10_000), {"delay_ms": 0}),
    "5,000 random names/s, upstreams dead": (flooded("names", 5_000, dead=True), {"delay_ms": 0}),
    "five reloads under 500/s": (reload, {}),
    "kill -9 to first answer": (killed, {}),
}
# Rows that are mostly waiting: all servers go through them at the same time.
TOGETHER = ("idle", "single upstream needs 1.5 s", "single upstream needs 4 s", "both dead, name was cached")


def cell(r):
    """One measurement in a few words."""
    if "error" in r:
        return "did not run"
    parts = []
    if "sent" in r:
        parts.append(f"{r['answered']:.0f} of {r['sent']:.0f} answered")
        if r["failed"]:
            parts.append(f"{r['failed']:.0f} failed")
        if r["lost"]:
            parts.append(f"**{r['lost']:.0f} lost**")
    if r.get("worst_ms") is not None:
        parts.append(f"p50 {r['p50_ms']:.1f}, worst {r['worst_ms']:.1f} ms")
    if "others_failed" in r:
        parts.append(f"others: {r['others_failed']:.0f} failed, worst {r['others_worst_ms']:.1f} ms")
    if "new_names_after_s" in r:
        parts.append(f"new names {r['new_names_after_s']:.2f} s after the return")
    if "wakeups_per_min" in r:
        parts.append(f"{r['wakeups_per_min']:.1f} wake-ups/min")
    if "rss_mib" in r:
        parts.append(f"{r['rss_mib']:.1f} MiB")
    return "; ".join(parts)


def report(records):
    """The table: of every figure the median over the rounds."""
    peers = list(dict.fromkeys(record["peer"] for record in records))
    print("| | " + " | ".join(peers) + " |\n|---|" + "---|" * len(peers))
    for row in dict.fromkeys(record["row"] for record in records):
        cells = []
        for peer in peers:
            runs = [r for r in records if (r["peer"], r["row"]) == (peer, row)]
            good = [r for r in runs if "error" not in r]
            keys = dict.fromkeys(key for r in good for key, value in r.items() if isinstance(value, (int, float)))
            middle = {key: statistics.median([r[key] for r in good if r.get(key) is not None]) for key in keys}
            cells.append(cell(middle if good else {"error": True}) if runs else "–")
        print(f"| {row} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", default=[], metavar="NAME=FOLDER", help="one more server; by default those in peers/ that are installed")
    parser.add_argument("--peers", default="truename,unbound,dnsmasq")
    parser.add_argument("--rows", default="", help="only rows with one of these words, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="length of floods and loads")
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--out", default="faults.jsonl", help="results are appended here, one JSON object a line")
    parser.add_argument("--report", metavar="RESULTS", help="only print the table of a results file")
    args = parser.parse_args()
    if args.report:
        return report([json.loads(line) for line in open(args.report)])
    if not os.environ.get("FAULTS_ISOLATED"):
        # A network namespace of its own: nothing can leave, no port clashes.
        os.environ["FAULTS_ISOLATED"] = "1"
        os.execvp("unshare", ["unshare", "-n" if os.geteuid() == 0 else "-rn", sys.executable, *sys.argv])
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    peers = {name: HERE / "peers" / name for name in args.peers.split(",") if name}
    peers.update((name, Path(folder)) for name, folder in (item.split("=", 1) for item in args.server))
    peers = {name: folder for name, folder in peers.items() if shutil.which(shlex.split((folder / "command").read_text())[0])}
    wanted = [row for row in ROWS if not args.rows or any(word in row for word in args.rows.split(","))]
    records = []

    def one(index, row, name):
        measure, setting = ROWS[row]
        server = None
        try:
            server = Server(name, peers[name], index, **setting)
            server.first_answer()
            record = {"peer": name, "row": row, **measure(server, args)}
        except Exception as error:
            record = {"peer": name, "row": row, "error": str(error)[:500]}
        finally:
            if server:
                server.stop()
        print(f"{name:10} {row:40} {cell(record)}", file=sys.stderr, flush=True)
        return record

    with open(args.out, "a") as out:
        for _ in range(args.rounds):
            for row in wanted:
                with ThreadPoolExecutor(len(peers) if row in TOGETHER else 1) as pool:
                    for record in pool.map(one, range(1, 1 + len(peers)), [row] * len(peers), peers):
                        out.write(json.dumps(record) + "\n")
                        out.flush()
                        records.append(record)
    report(records)


if __name__ == "__main__":
    main()
