"""The agent of an environment without its harness: started as `bare` starts it and asked as a run asks it, so that its bursts can take
turns with another program's, a fraction of a second each. The frames are those of workloads/src/protocol.rs."""

import base64
import contextlib
import json
import struct
import subprocess
import zlib
from collections import Counter

from .shared import Failed, ended_when_late

# No burst of a row ends early.
LIMIT_NS = 60_000_000_000


def histogram(blob):
    """Counts by latency of an HdrHistogram V2 (deflated) with a lowest value of 1 and 3 digits, as an agent answers and the store keeps it."""
    _, length = struct.unpack(">II", blob[:8])
    body = zlib.decompress(blob[8 : 8 + length])
    _, size, _, digits, lowest, _, _ = struct.unpack(">IIiIQQd", body[:40])
    assert (digits, lowest) == (3, 1), "the stopwatch's histograms have other bounds now: adapt scripts/peers/agent.py"
    counts, at, index = Counter(), 40, 0
    while at < 40 + size:
        number, shift = 0, 0
        while True:
            byte, at = body[at], at + 1
            # The ninth byte has eight bits, all before it seven and one that says that more follow.
            last = shift == 56 or byte < 0x80
            number |= (byte if shift == 56 else byte & 0x7F) << shift
            shift += 7
            if last:
                break
        value = (number >> 1) ^ -(number & 1)
        if value < 0:
            index -= value
            continue
        bucket = max((index >> 10) - 1, 0)
        slot = (index & 1023) + (1024 if index >= 2048 else index & 1024)
        # The middle of the bucket, as the peers' histograms give it too.
        counts[(slot << bucket) + ((1 << bucket) >> 1)] += value
        index += 1
    return counts


class Agent:
    """An agent that has said hello. `words` is its whole command line, what pins it or enters a network included."""

    def __init__(self, words, **more):
        # What it says beside its frames is skipped, and kept for when it fails.
        self.process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **more
        )
        self.number, self.noise = 0, b""

    def __enter__(self):
        try:
            self.hear()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        # Without a harness it ends by itself.
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def ask(self, request):
        """The answer to a request, `Bye` included; what the agent could not do is a failure."""
        self.number += 1
        text = json.dumps({"id": self.number, "received_ns": 0, "sent_ns": 0, "body": request}).encode()
        # Where it has ended, its last words are still to be read.
        with contextlib.suppress(OSError):
            self.process.stdin.write(b"\x1e%08x %s\n" % (zlib.crc32(text), text))
            self.process.stdin.flush()
        answer = self.hear()
        if isinstance(answer, dict) and "Failed" in answer:
            raise Failed(answer["Failed"]["message"])
        return answer

    def hear(self):
        with ended_when_late(self.process):
            while line := self.process.stdout.readline():
                noise, sign, frame = line.rpartition(b"\x1e")
                self.noise += noise if sign else line
                if sign:
                    return self.read(frame)
        raise Failed(f"the agent has ended: {self.noise[-500:].decode(errors='replace')}")

    def read(self, frame):
        text = frame[9:].rstrip(b"\r\n")
        if int(frame[:8], 16) != zlib.crc32(text):
            raise Failed("a frame of the agent is damaged")
        envelope = json.loads(text)
        if envelope["id"] != self.number:
            raise Failed(f"the agent answers another question: {text[:200].decode(errors='replace')}")
        return envelope["body"]

    def burst(self, operations, warmup, batch):
        """One burst of the workload that is prepared: the sample, with its histogram in bytes."""
        plan = {"operations": operations, "warmup": warmup, "batch": batch, "limit_ns": LIMIT_NS, "number": self.number}
        sample = self.ask({"Burst": plan})["Sample"]
        if sample["cut_short"] or sample["operations"] != operations:
            raise Failed(f"the agent did {sample['operations']} of {operations} operations within {LIMIT_NS // 10**9} s")
        return sample | {"histogram": base64.b64decode(sample["histogram"])}
