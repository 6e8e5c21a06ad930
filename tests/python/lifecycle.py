"""One session's whole life, by a gRPC client that is not ours.

Usage: lifecycle.py PROTO_DIRECTORY ADDRESS IMAGE SESSION_ID

Everything is generated from the .proto file at the start. What is not right is an AssertionError; the last line of the
output is "done".
"""

import importlib
import pathlib
import sys
import tempfile
import threading
import time
import urllib.request

import grpc
from grpc_tools import protoc

PATIENCE = 60


def generate(protos: str):
    """The messages and stubs of controller.proto."""
    out = tempfile.mkdtemp(prefix="ss-python-")
    well_known = str(pathlib.Path(protoc.__file__).parent / "_proto")
    name = "streamspace/controller/v1/controller.proto"
    arguments = ["", f"-I{protos}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", name]
    assert protoc.main(arguments) == 0, "controller.proto cannot be compiled"
    sys.path.insert(0, out)
    package = "streamspace.controller.v1.controller_pb2"
    return importlib.import_module(package), importlib.import_module(package + "_grpc")


def until(what, ask):
    """Waits until a question has an answer."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def main(protos, address, image, session_id):
    pb, pb_grpc = generate(protos)
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    stub = pb_grpc.ControllerServiceStub(channel)

    def drive(call, request):
        """Goes on with the handle as long as it is in progress."""
        while True:
            answer = call(request, timeout=PATIENCE)
            if not answer.in_progress:
                return answer
            request.handle = answer.handle
            time.sleep(max(0.05, answer.poll_after.ToNanoseconds() / 1e9))

    def phase():
        return stub.GetSessionStatus(pb.GetSessionStatusRequest(session_id=session_id), timeout=PATIENCE).phase

    def page():
        access = stub.GetSessionAccess(pb.GetSessionAccessRequest(session_id=session_id), timeout=PATIENCE)
        point = access.points[0]
        url = point.http.base_url if point.HasField("http") else f"http://{point.tcp.host}:{point.tcp.port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(url + "/", timeout=10).read()
        except OSError:
            return None

    capabilities = stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=PATIENCE)
    assert capabilities.controller_type == "docker", capabilities
    assert capabilities.supports_hibernation and capabilities.supports_logs and capabilities.supports_metrics
    assert stub.HealthCheck(pb.HealthCheckRequest(), timeout=PATIENCE).status == "healthy"

    create = pb.CreateSessionRequest(
        session_id=session_id,
        user_id="pýthon",
        spec_hash="1",
        spec=pb.SessionSpec(
            base_image=image,
            resources=pb.ResourceRequirements(memory="64Mi", cpu="500m"),
            ports=[pb.Port(name="web", container_port=3000)],
        ),
    )
    try:
        drive(stub.CreateSession, create)
        until("Running", lambda: phase() == "Running")
        print("created")
        until("a page", page)
        print("reached")

        listed = stub.ListSessions(pb.ListSessionsRequest(), timeout=PATIENCE).entries
        mine = [entry for entry in listed if entry.status.session_id == session_id]
        assert len(mine) == 1 and mine[0].user_id == "pýthon", listed

        drive(stub.HibernateSession, pb.HibernateSessionRequest(session_id=session_id))
        until("Hibernated", lambda: phase() == "Hibernated")
        drive(stub.WakeSession, pb.WakeSessionRequest(session_id=session_id))
        until("Running again", lambda: phase() == "Running")
        until("a page after the wake", page)
        print("woken")

        follower = stub.GetSessionLogs(pb.GetSessionLogsRequest(session_id=session_id, follow=True, tail_lines=1))
        # A follower that gets nothing must not hang the test.
        alarm = threading.Timer(PATIENCE, follower.cancel)
        alarm.start()
        lines = [next(follower).message for _ in range(3)]
        alarm.cancel()
        follower.cancel()
        assert any("tick" in line for line in lines), lines
        print("followed")

        def sample():
            return stub.GetSessionMetrics(pb.GetSessionMetricsRequest(session_id=session_id), timeout=PATIENCE)

        first = sample()
        assert abs(first.sampled_at.ToSeconds() - time.time()) < 300, first
        assert first.counters.cpu_ns > 0, first
        assert sample().counters.cpu_ns >= first.counters.cpu_ns
        print("measured")
    finally:
        deleted = drive(stub.DeleteSession, pb.DeleteSessionRequest(session_id=session_id, user_id="pýthon"))
    assert deleted.success, deleted
    try:
        phase()
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    else:
        raise AssertionError("the session is there after its delete")
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
