"""What several harnesses here need: an unbound that keeps to itself, and questions as octets."""
import struct


def unbound(path, address, more):
    """Writes the configuration of an unbound with one thread; returns its command."""
    path.write_text(f"""
server:
  interface: {address}
  port: 53
  do-daemonize: no
  chroot: ""
  username: ""
  pidfile: ""
  directory: {path.parent}
  use-syslog: no
  num-threads: 1
  access-control: 0.0.0.0/0 allow
{more}""")
    return ["unbound", "-d", "-c", str(path)]


def query(number, name):
    """An A query with RD, without EDNS."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number & 0xffff, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
