"""Ranks: a run over several cards is one process for each. The child is rank 0, starts the others and answers for all.

They stay in the child's process group, so what ends the child ends them, and each learns by the end of its pipe that
rank 0 is gone. Only rank 0 speaks to the worker, and writes what is kept. The first error of any rank is the run's.

Covered: a rank that fails, is killed or runs out of memory; a stop, which all take after the same step. Proven on a CPU
with gloo; on cards with NCCL it is complete but unproven: no two cards were at hand.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gpu_worker.memory import oom_kills
from gpu_worker.out_of_memory import ran_out_of_memory, says_out_of_memory
from gpu_worker.silent_death import explain_death
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_worker.child_side import Channel

MODULE = "gpu_worker.rank"
HOST = "127.0.0.1"  # all cards of a job are in one host
# A rank that hangs is a silence, which the worker sees; what waits for a large checkpoint is none.
PATIENCE = timedelta(days=7)
REASON_SECONDS = 10.0  # for the rank that failed to say why, once another one has noticed
HEARSAY = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "distbackenderror")


def is_first() -> bool:
    """Whether this process speaks and writes for all."""
    return os.environ.get("RANK", "0") == "0"


def count() -> int:
    """How many ranks the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any rank; all ask at the same point of the run, and get the same answer."""
    if count() == 1:
        return flag
    import torch
    from torch import distributed

    told = torch.tensor(int(flag))
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    return bool(told)


def meet() -> None:
    """Wait until every rank has come here."""
    any_of(False)


@contextmanager
def together(number: int, config: dict[str, Any], channel: Channel, module: str = MODULE) -> Iterator[None]:
    """Rank 0's side: start the other ranks, which run `module` on `config`, and be one of `number` in the block."""
    if number == 1:
        yield
        return
    listener = socket.create_server((HOST, 0))
    os.environ |= _environment(0, number, listener.getsockname()[1])
    others = _Others(number, config, channel, module)
    try:
        _join(0, number, listener)
        yield
    except Exception as error:
        others.hear(error)
        raise
    finally:
        others.part()
    _leave()


@contextmanager
def joined() -> Iterator[None]:
    """The side of every other rank."""
    _join(int(os.environ["RANK"]), count())
    yield
    _leave()


def _environment(rank: int, number: int, port: int) -> dict[str, str]:
    """What accelerate and torch read."""
    threads = max(1, len(os.sched_getaffinity(0)) // number) if hasattr(os, "sched_getaffinity") else 1
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",  # the host's own name may lead nowhere
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }


def _join(rank: int, number: int, listener: socket.socket | None = None) -> None:
    import torch
    from torch import distributed

    on_cards = torch.cuda.is_available()
    if on_cards:
        if torch.cuda.device_count() < number:
            seen = f"{torch.cuda.device_count()} (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')})"
            raise Invalid(f"cards: {number} are asked for, and this process sees {seen}; a worker reserves them")
        torch.cuda.set_device(rank)
        _heed_peers()
    else:
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"  # else it is "cpu:0", onto which torch cannot load an optimizer
    port = int(os.environ["MASTER_PORT"])
    fd = {} if listener is None else {"master_listen_fd": listener.detach()}  # nobody can take the port meanwhile
    meeting = distributed.TCPStore(
        HOST, port, number, is_master=rank == 0, timeout=PATIENCE, wait_for_workers=False, **fd
    )
    backend = "cpu:gloo,cuda:nccl" if on_cards else "gloo"
    distributed.init_process_group(backend, store=meeting, rank=rank, world_size=number, timeout=PATIENCE)


def _heed_peers() -> None:
    """Some cards cannot write into one another; accelerate refuses to begin unless NCCL was told so."""
    from accelerate.utils import check_cuda_p2p_ib_support

    if not check_cuda_p2p_ib_support():
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}


def _leave() -> None:
    from torch import distributed

    distributed.destroy_process_group()


class _Others:
    """Rank 0's end of the other ranks."""

    def __init__(self, number: int, config: dict[str, Any], channel: Channel, module: str) -> None:
        self.channel, self.module, self.over = channel, module, threading.Event()
        self.oom_kills = oom_kills()
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, number):
            self._start(rank, number, config)

    def _start(self, rank: int, number: int, config: dict[str, Any]) -> None:
        ours, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module],
                stdin=subprocess.PIPE,
                env=os.environ | _environment(rank, number, int(os.environ["MASTER_PORT"])),
                pass_fds=(theirs,),
            )
        finally:
            os.close(theirs)
        order = {"progress_fd": theirs, "workdir": str(self.channel.workdir), "config": config}
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already: its exit status says more
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        self.processes.append(process)
        name = f"card {rank + 1} of {number}"
        threading.Thread(target=self._attend, args=(name, process, ours), name=name, daemon=True).start()

    def _attend(self, name: str, process: subprocess.Popen[bytes], pipe: int) -> None:
        """Read what a rank says until it ends; if that is a failure, it is the run's."""
        has_ended = False
        with os.fdopen(pipe, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # it was killed in the middle of a word
                    break
                word = json.loads(line)
                if "error" in word:
                    self._fail(name, word)
                has_ended = has_ended or "progress" not in word
        status = process.wait()
        if not has_ended and not self.over.is_set():
            log = self.channel.workdir / "logs" / "child.log"
            self.channel.fail(explain_death(f"{self.module} on {name}", status, log, oom_kills_before=self.oom_kills))
            os._exit(1)

    def _fail(self, name: str, word: dict[str, Any]) -> None:
        """End the run with a rank's error; the thread that waits for that rank may never wake up otherwise."""
        error = word["error"]
        if _is_hearsay(error["message"]) and self.over.wait(REASON_SECONDS):
            return
        if not self.over.is_set():
            self.channel.end({"error": error | {"message": f"on {name}: {error['message']}"}})
            os._exit(1)

    def hear(self, error: Exception) -> None:
        """See whether an error of this rank came from another one's; if so, this does not return."""
        if not ran_out_of_memory(error) and _is_hearsay(str(error)):
            self.over.wait(2 * REASON_SECONDS)

    def part(self) -> None:
        """Whatever the others do from now on is no failure."""
        self.over.set()


def _is_hearsay(text: str) -> bool:
    """Whether the words are those of a rank that lost another one."""
    plain = text.lower()
    return not says_out_of_memory(plain) and any(words in plain for words in HEARSAY)
