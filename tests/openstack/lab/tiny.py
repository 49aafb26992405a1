"""Writes the image lab-tiny: tiny.py FILE. A disk of 1 MiB with 512 bytes that say "lab-tiny is up" on the first serial port and then sleep.

Nova treats it as any other server, and it is up in no time. It has no operating system: it does not react to the power button nor to a volume
that is taken away while it runs."""

import pathlib
import sys

code = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "fc"  # cld
    "be147c"  # mov si, 0x7c14: the text
    "baf803"  # mov dx, 0x3f8: the first serial port
    "ac"  # next: lodsb
    "84c0"  # test al, al
    "7403"  # jz sleep
    "ee"  # out dx, al
    "ebf8"  # jmp next
    "f4"  # sleep: hlt
    "ebfd"  # jmp sleep
)
text = b"lab-tiny is up\r\n\0"
start = code.index(bytes.fromhex("be")) + 1
code = code[:start] + (0x7C00 + len(code)).to_bytes(2, "little") + code[start + 2 :]
disk = (code + text).ljust(510, b"\0") + b"\x55\xaa"
pathlib.Path(sys.argv[1]).write_bytes(disk.ljust(1 << 20, b"\0"))
