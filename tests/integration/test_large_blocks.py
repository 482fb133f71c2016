"""Memory of large messages comes and goes, and is not to be taken from the
system, page by page, each time."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, sys, threading
import twspy

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks '
        'fordblks keepcost'.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def mapped() -> int:
    'Of one block of a mebibyte.'
    before = libc.mallinfo2().hblks
    block = libc.malloc(1 << 20)
    after = libc.mallinfo2().hblks
    libc.free(block)
    return after - before

one, other = twspy.pair()
size = int(sys.argv[1])
# The end that sends here only sends, and the one that receives is no server.
if size:
    sending = threading.Thread(target=one.send, args=(bytes(size),))
    sending.start()
    assert len(other.recv().payload) == size
    sending.join()
print(mapped())
"""


def mapped_after(size: int) -> int:
    """A message of so many bytes; 0: none."""
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, str(size)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def test_client_with_large_messages() -> None:
    assert mapped_after(300_000) == 0


def test_client_with_small_messages() -> None:
    """The program's memory is left as it is."""
    assert mapped_after(100) == mapped_after(0)
