"""DNS messages as bytes, as far as the fault harness needs them."""
import struct

TYPE_A, TYPE_OPT, CLASS_IN = 1, 41, 1


def question(name):
    """The question section of an A query."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return labels + b"\0" + struct.pack("!HH", TYPE_A, CLASS_IN)


def query(ident, name):
    """A query with RD and an OPT record."""
    header = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 1)
    return header + question(name) + b"\0" + struct.pack("!HHIH", TYPE_OPT, 1232, 0, 0)


def question_end(message):
    """Where the question section ends; None for what is no query."""
    at = 12
    while at < len(message) and message[at]:
        at += message[at] + 1
    return at + 5 if at + 5 <= len(message) else None


def first_label(message):
    """The first label of the question, in lower case."""
    return message[13 : 13 + message[12]].lower().decode(errors="replace")


def answer(message, address, ttl):
    """The reply to a query's bytes with one A record."""
    end = question_end(message)
    head = message[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
    return head + message[12:end] + struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, ttl, 4) + bytes(address)


def outcome(message):
    """(id, response code, number of answer records) of a reply."""
    ident, flags, _, answers = struct.unpack("!4H", message[:8])
    return ident, flags & 15, answers
