"""
A name server that knows one name, as a program: C{python -m tests.agent.name_server ADDRESS ANSWER}.

It answers every question for an address of version 4 with ANSWER, and every other one with nothing (RFC 1035 section 4.1).
"""

from __future__ import annotations

import socket
import struct
import sys

_ADDRESS, _ANSWERS = 1, 0x8180


def answer_to(question: bytes, address: str) -> bytes:
    """
    @param question: a message with one question.
    """
    end = question.index(b"\0", 12) + 5
    (kind,) = struct.unpack_from("!H", question, end - 4)
    found = b""
    if kind == _ADDRESS:
        found = struct.pack("!HHHLH", 0xC00C, _ADDRESS, 1, 0, 4) + socket.inet_aton(address)  # valid for no time at all
    return question[:2] + struct.pack("!HHHHH", _ANSWERS, 1, bool(found), 0, 0) + question[12:end] + found


def main(here: str, address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind((here, 53))
        while True:
            question, whom = asked.recvfrom(4096)
            asked.sendto(answer_to(question, address), whom)


if __name__ == "__main__":
    main(*sys.argv[1:])
