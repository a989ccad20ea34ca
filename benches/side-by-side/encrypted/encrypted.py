#!/usr/bin/env python3
"""What an encrypted upstream costs: truename beside dnsdist and unbound, by UDP, DoT and DoH. See README.md."""
import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lab

NAME = "dns.example"
UPSTREAM, SERVER = "127.0.0.21", "127.0.0.30"
# The server under test has this processor, everything else the other.
SERVER_CPU, OTHER_CPU = "0", "1"
RATE = 1000
WINDOW = 64
WAYS = ("udp", "dot", "doh")


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


def certificates(folder):
    """An authority and a server's certificate of it."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    quiet = {"stderr": subprocess.DEVNULL}
    run("openssl", "req", "-x509", *key, "-days", "3650", "-subj", "/CN=test authority", "-keyout", folder / "ca.key", "-out",
        folder / "ca.pem", **quiet)
    run("openssl", "req", *key, "-subj", f"/CN={NAME}", "-keyout", folder / "server.key", "-out", folder / "server.csr", **quiet)
    (folder / "names").write_text(f"subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\n")
    run("openssl", "x509", "-req", "-in", folder / "server.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-days",
        "3650", "-extfile", folder / "names", "-out", folder / "server.pem", **quiet)


def upstream(folder):
    """dnsdist that answers every question itself, by all three ways."""
    (folder / "upstream.conf").write_text(f"""
setLocal("{UPSTREAM}:53")
addTLSLocal("{UPSTREAM}:853", "{folder}/server.pem", "{folder}/server.key")
addDOHLocal("{UPSTREAM}:443", "{folder}/server.pem", "{folder}/server.key", "/dns-query")
addAction(AllRule(), SpoofAction("192.0.2.7", {{ttl=3600}}))
setSecurityPollSuffix("")
""")
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", folder / "upstream.conf"]


def truename(folder, way, binary):
    at = {"udp": UPSTREAM, "dot": f"tls://{UPSTREAM}#{NAME}", "doh": f"https://{UPSTREAM}/dns-query#{NAME}"}[way]
    (folder / "truename.toml").write_text(f"""
[server]
listen = ["{SERVER}:53"]
workers = 1
[upstream.system]
servers = ["{at}"]
[default]
private_answers = "allow"
[hosts]
files = []
[cache]
persist = false
[stats]
socket = "off"
control = "off"
[log]
format = "json"
""")
    return [binary, "run", "--config", folder / "truename.toml"]


def dnsdist(folder, way, _):
    secure = f', tls="openssl", subjectName="{NAME}", caStore="{folder}/ca.pem", validateCertificates=true'
    at = {"udp": f'"{UPSTREAM}:53"', "dot": f'"{UPSTREAM}:853"{secure}', "doh": f'"{UPSTREAM}:443"{secure}, dohPath="/dns-query"'}[way]
    (folder / "dnsdist.conf").write_text(f"""
setLocal("{SERVER}:53")
newServer({{address={at}, checkInterval=3600}})
setSecurityPollSuffix("")
local cache = newPacketCache(200000)
getPool(""):setCache(cache)
""")
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", folder / "dnsdist.conf"]


def unbound(folder, way, _):
    if way == "doh":
        return None
    at = {"udp": f"{UPSTREAM}@53", "dot": f"{UPSTREAM}@853#{NAME}"}[way]
    return lab.unbound(folder / "unbound.conf", SERVER, f"""\
  do-not-query-localhost: no
  module-config: "iterator"
  qname-minimisation: no
  outgoing-num-tcp: 100
  outgoing-range: 4096
  num-queries-per-thread: 2048
  msg-cache-size: 64m
  rrset-cache-size: 128m
  tls-cert-bundle: {folder}/ca.pem
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-tls-upstream: {"yes" if way == "dot" else "no"}
  forward-addr: {at}
""")


PEERS = {"truename": truename, "dnsdist": dnsdist, "unbound": unbound}


def ask(address, name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        try:
            sock.sendto(lab.query(4711, name), (address, 53))
            reply = sock.recv(4096)
        except OSError:
            return False
    return reply[3] & 15 == 0 and reply[7] > 0


def start(command, cpu, folder, address):
    log = open(folder / "log", "a")
    process = subprocess.Popen(["taskset", "-c", cpu, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    end = time.monotonic() + 20
    while not ask(address, f"start{time.monotonic_ns()}.example"):
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"{command[0]} does not answer:\n{(folder / 'log').read_text()[-3000:]}")
        time.sleep(0.05)
    return process


def end(process):
    process.terminate()
    process.wait()


def cpu_us(process):
    """Processor time of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


class Names:
    """Files of names that nobody has asked for yet."""

    def __init__(self, folder):
        self.folder, self.at = folder, 0

    def file(self, count):
        path = self.folder / "names.txt"
        with open(path, "w") as file:
            file.writelines(f"n{self.at + n:08d}.q.example A\n" for n in range(count))
        self.at += count
        return path


def load(names, count, *words):
    """Asks `count` new names; returns how many were answered well and each time in µs."""
    command = ["taskset", "-c", OTHER_CPU, "dnsperf", "-s", SERVER, "-d", str(names.file(count)), "-n", "1", "-c", "1", "-T", "1",
               "-t", "3", "-v", *words]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    times = [float(time_s) * 1e6 for time_s in re.findall(r"^> NOERROR \S+ \S+ (\S+)", text, re.M)]
    return len(times), times


def measure(folder, peer, way, binary, seconds):
    command = PEERS[peer](folder, way, binary)
    if command is None:
        return None
    process = start(command, SERVER_CPU, folder, SERVER)
    names = Names(folder)
    try:
        load(names, 2000, "-q", "16", "-Q", "2000")
        asked = int(RATE * seconds)
        answered, times = load(names, asked, "-q", str(WINDOW), "-Q", str(RATE))
        row = {"peer": peer, "way": way, "p50_us": statistics.median(times), "lost": asked - answered}
        count = int(5000 * seconds)
        before = cpu_us(process)
        answered, _ = load(names, count, "-q", str(WINDOW))
        row |= {"cpu_us": (cpu_us(process) - before) / answered, "lost_busy": count - answered}
        return row
    finally:
        end(process)


def report(rows):
    def median(peer, way, key):
        values = [row[key] for row in rows if row["peer"] == peer and row["way"] == way]
        return statistics.median(values) if values else None

    peers = [peer for peer in PEERS if any(row["peer"] == peer for row in rows)]
    print(f"{'':10}{'way':5}{'CPU µs/answer':>14}{'p50 µs':>9}{'over UDP':>10}{'lost':>6}")
    for way in WAYS:
        for peer in peers:
            cpu, p50 = median(peer, way, "cpu_us"), median(peer, way, "p50_us")
            if cpu is None:
                continue
            lost = sum(row["lost"] + row["lost_busy"] for row in rows if row["peer"] == peer and row["way"] == way)
            print(f"{peer:10}{way:5}{cpu:14.1f}{p50:9.0f}{p50 - median(peer, 'udp', 'p50_us'):10.0f}{lost:6}")
        if all(median(peer, way, "cpu_us") for peer in ("truename", "dnsdist")):
            best = min(filter(None, (median(peer, way, "cpu_us") for peer in peers if peer != "truename")))
            print(f"{'':10}{way:5}truename's CPU is {median('truename', way, 'cpu_us') / best:.2f} × the best peer's")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path, help="truename, a release build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--out", help="results are appended here, one JSON object a line")
    arguments = parser.parse_args()
    if "ENCRYPTED_INSIDE" not in os.environ:
        # A machine of our own: namespaces, as whatever user this is.
        os.execvpe("unshare", ["unshare", "--user", "--map-root-user", "--mount", "--net", sys.executable, *sys.argv],
                   {**os.environ, "ENCRYPTED_INSIDE": "1"})
    binary = arguments.binary.resolve()
    run("ip", "link", "set", "lo", "up")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates(folder)
        os.environ["SSL_CERT_FILE"] = str(folder / "ca.pem")
        server = start(upstream(folder), OTHER_CPU, folder, UPSTREAM)
        try:
            for _ in range(arguments.rounds):
                for way in WAYS:
                    for peer in arguments.peers.split(","):
                        if row := measure(folder, peer, way, binary, arguments.seconds):
                            rows.append(row)
                            print(json.dumps(row), file=sys.stderr)
        finally:
            end(server)
    if arguments.out:
        with open(arguments.out, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    report(rows)


if __name__ == "__main__":
    main()
