"""Makes a session, waits until it runs, hears what happens to it, and deletes it.

Usage: STREAMSPACE_TOKEN=… example.py ADDRESS IMAGE
"""

import os
import sys
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from streamspace.api.v1 import session_pb2, session_pb2_grpc, spec_pb2, watch_pb2, watch_pb2_grpc


def main(address: str, image: str) -> None:
    token = [("authorization", f"Bearer {os.environ['STREAMSPACE_TOKEN']}")]
    with grpc.insecure_channel(address) as channel:
        sessions = session_pb2_grpc.SessionServiceStub(channel)
        events = watch_pb2_grpc.WatchServiceStub(channel).Watch(watch_pb2.WatchRequest(), metadata=token)
        # From the first message on nothing is missed.
        assert next(events).kind == watch_pb2.WATCH_KIND_READY

        spec = spec_pb2.SessionSpec(base_image=image, ports=[spec_pb2.Port(name="web", container_port=80)])
        request = session_pb2.CreateSessionRequest(
            spec=spec, idempotency_key=str(uuid.uuid4()), wait=Duration(seconds=120)
        )
        session = sessions.Create(request, metadata=token)
        phase = session_pb2.SessionPhase.Name(session.phase)
        assert session.phase == session_pb2.SESSION_PHASE_RUNNING, f"{session.id} is {phase}"
        print(f"{session.id} runs at http://{address}{session.url}")

        sessions.Delete(session_pb2.DeleteSessionRequest(id=session.id), metadata=token)
        for message in events:
            if message.event.session_id == session.id:
                print(message.event.time.ToJsonString(), message.event.type, message.event.reason)
            if message.event.session_id == session.id and message.event.type == "session.deleted":
                break
        events.cancel()


if __name__ == "__main__":
    main(*sys.argv[1:])
