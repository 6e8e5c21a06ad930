"""A controller of the type `process`. A session of it is a web server: a process of its own, on a port of the loopback interface.

Usage: API_SERVER_URL=http://127.0.0.1:8000 STREAMSPACE_JOIN_TOKEN=… controller.py NAME FOLDER

It offers the ten RPCs of the core and none of the additive ones. Nothing is remembered that is not found again: a session is a
folder with the request that made it, and a process that has the folder on its command line (Linux: /proc).
"""

import asyncio, json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

from grpc import StatusCode
from streamspace.controller.v1 import controller_pb2 as pb

from membership import Refusal, serve

TYPE, IMAGE, MOST = "process", "http.server", 50
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def demand(is_so: object, field: str, text: str) -> None:
    if not is_so:
        raise Refusal(StatusCode.INVALID_ARGUMENT, "INVALID", f"{field}: {text}", field)


def quantity(text: str) -> float:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)([a-zA-Z]*)", text or "0")
    return float(match[1]) * UNITS[match[2]] if match and match[2] in UNITS else float("inf")


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text or "{}"), dict)
    except ValueError:
        return False


class Sessions:
    """The ten RPCs. None waits in the middle of a change: they happen as a whole, and one after the other."""

    def __init__(self, folder: str) -> None:
        self.root, self.epoch = Path(folder).resolve(), 0
        self.root.mkdir(parents=True, exist_ok=True)

    def check(self, request) -> None:
        """What holds for every call: ids are ids, handles are short, and nobody comes who was replaced."""
        if "session_id" in request.DESCRIPTOR.fields_by_name:
            is_id = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", request.session_id)
            demand(is_id, "session_id", "up to 64 letters, digits and hyphens")
        demand(len(getattr(request, "handle", b"")) <= 65536, "handle", "at most 64 KiB")
        if 0 < getattr(request, "epoch", 0) < self.epoch:
            raise Refusal(StatusCode.ABORTED, "STALE_EPOCH", f"the epoch is {self.epoch} by now")
        self.epoch = max(self.epoch, getattr(request, "epoch", 0))

    def count(self) -> int:
        return sum(1 for _ in self.root.glob("*/request"))

    def known(self, session: str) -> pb.CreateSessionRequest:
        try:
            return pb.CreateSessionRequest.FromString((self.root / session / "request").read_bytes())
        except FileNotFoundError:
            raise Refusal(StatusCode.NOT_FOUND, "NOT_FOUND", "there is no such session") from None

    def process(self, session: str) -> int | None:
        mark = [os.fsencode(self.root / session / "www"), b""]
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if line.read_bytes().split(b"\0")[-2:] == mark:
                    return int(line.parent.name)
            except OSError:
                pass  # it has ended meanwhile
        return None

    def start(self, session: str) -> None:
        spec, folder = self.known(session).spec, self.root / session
        if self.process(session) is None:
            command = [sys.executable, "-u", "-m", IMAGE, "0", "--bind", "127.0.0.1", "--directory", folder / "www"]
            environment = {"PATH": os.defpath} | {one.name: one.value for one in spec.env}
            with open(folder / "log", "wb") as log:  # in a group of its own: it outlives this process
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)

    def stop(self, session: str) -> None:
        end = time.monotonic() + 2
        while (pid := self.process(session)) is not None:
            if time.monotonic() > end:
                raise Refusal(StatusCode.UNAVAILABLE, "UNAVAILABLE", "the session's process does not end")
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def GetSessionStatus(self, request):
        session = request.session_id
        self.known(session)
        status = pb.SessionStatusResponse(session_id=session, node_id=f"ss-{session}", phase="Hibernated")
        if self.process(session) is not None:
            serves = re.match(rb"Serving HTTP on .* port (\d+)", (self.root / session / "log").read_bytes())
            status.phase = "Running" if serves else "Pending"
            status.url = f"http://127.0.0.1:{serves[1].decode()}/" if serves else ""
        text = "memory and processor are not limited"
        status.conditions.add(type="ResourcesEnforced", status="False", reason="NotSupported", message=text)
        return status

    def GetSession(self, request):
        user = self.known(request.session_id).user_id
        return pb.GetSessionResponse(status=self.GetSessionStatus(request), user_id=user, ownership=pb.OWNERSHIP_OWNED)

    def CreateSession(self, request):
        spec, folder = request.spec, self.root / request.session_id
        demand(request.HasField("spec"), "spec", "is missing")
        demand(1 <= len(request.user_id.encode()) <= 512, "user_id", "1 to 512 bytes")
        demand(spec.base_image == IMAGE, "spec.base_image", f"there is only {IMAGE}")
        demand(quantity(spec.resources.memory) <= MEMORY, "spec.resources.memory", "there is not so much")
        demand(quantity(spec.resources.cpu) <= os.cpu_count(), "spec.resources.cpu", "there are not so many")
        demand(not spec.persistent_home, "spec.persistent_home", "nothing is kept here")
        demand(not spec.volume_mounts, "spec.volume_mounts", "nothing is kept here")
        demand(all("\0" not in one.name + one.value and "=" not in one.name for one in spec.env), "spec.env", "cannot be set")
        demand(is_object(request.controller_config), "controller_config", "is no JSON object")
        if not (folder / "request").exists():
            if self.count() >= MOST:
                raise Refusal(StatusCode.RESOURCE_EXHAUSTED, "EXHAUSTED", f"there are {MOST} sessions already")
            (folder / "www").mkdir(parents=True, exist_ok=True)
            (folder / "www/index.html").write_text(f"session {request.session_id}\n")
            (folder / "new").write_bytes(request.SerializeToString())
            (folder / "new").rename(folder / "request")  # from here on it is there
        elif self.known(request.session_id).spec_hash != request.spec_hash:
            raise Refusal(StatusCode.ALREADY_EXISTS, "CONFLICT", "it was made of another spec")
        self.start(request.session_id)
        made = self.GetSessionStatus(request)
        return pb.CreateSessionResponse(session_id=made.session_id, node_id=made.node_id, phase=made.phase)

    def DeleteSession(self, request):
        self.stop(request.session_id)
        folder = self.root / request.session_id
        shutil.rmtree(folder, ignore_errors=True)
        return pb.DeleteSessionResponse(session_id=request.session_id, success=not folder.exists())

    def HibernateSession(self, request):
        self.known(request.session_id)
        self.stop(request.session_id)
        return pb.HibernateSessionResponse(session_id=request.session_id, phase="Hibernated")

    def WakeSession(self, request):
        self.start(request.session_id)
        return pb.WakeSessionResponse(session_id=request.session_id, phase=self.GetSessionStatus(request).phase)

    def GetSessionMetrics(self, request):
        self.known(request.session_id)
        if (pid := self.process(request.session_id)) is None:
            raise Refusal(StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION", "the session does not run")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        answer = pb.SessionMetricsResponse(session_id=request.session_id)
        answer.usage.memory = f"{int(fields[21]) * os.sysconf('SC_PAGE_SIZE') // 1024}Ki"
        answer.counters.cpu_ns = (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")
        answer.sampled_at.GetCurrentTime()
        return answer

    def GetSessionLogs(self, request):
        self.known(request.session_id)
        return self.lines(self.root / request.session_id / "log", request)

    async def lines(self, log: Path, request):
        at, tail = int(request.cursor) if request.cursor.isdecimal() else 0, request.tail_lines
        while log.exists():
            text = log.read_bytes()
            at = at if at <= len(text) else 0  # it begins anew with every start of the session
            lines = [line for line in text[at:].splitlines(keepends=True) if line.endswith(b"\n")]
            for left, line in zip(range(len(lines), 0, -1), lines):
                at += len(line)
                if tail <= 0 or left <= tail:
                    yield pb.LogEntry(message=line[:-1].decode(errors="replace"), stream="stdout", cursor=str(at))
            if not request.follow:
                break
            tail = 0
            await asyncio.sleep(0.5)

    def GetCapabilities(self, request):
        return pb.CapabilitiesResponse(controller_type=TYPE, version="1.0", supports_hibernation=True, supports_metrics=True,
                                       supports_logs=True, capacity=pb.ResourceCapacity(max_sessions=MOST))

    def HealthCheck(self, request):
        return pb.HealthCheckResponse(status="healthy", current_sessions=self.count())


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    os.umask(0o077)  # there are secrets in the requests
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for processes that end
    asyncio.run(serve(TYPE, name, Sessions(folder)))
