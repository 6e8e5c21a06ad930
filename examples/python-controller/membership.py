"""What any controller in Python has with an API server: it serves on the loopback interface, registers, gives signs of life, and
takes only calls that an API server has signed for it."""

import asyncio, base64, hashlib, json, os, re, time, urllib.error, urllib.request

import grpc
import jwt
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from streamspace.controller.v1 import controller_pb2

SERVICE = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"]
CLAIMS = ["iss", "aud", "iat", "exp", "jti", "mth", "bdy"]


class Refusal(Exception):
    """An error of a call, with its reason, and the field that is at fault."""

    def __init__(self, code: grpc.StatusCode, reason: str, text: str, field: str = "") -> None:
        super().__init__(text)
        self.code, status = code, status_pb2.Status(code=code.value[0], message=text)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="streamspace.controller"))
        if field:
            wrong = error_details_pb2.BadRequest()
            wrong.field_violations.add(field=field, description=text)
            status.details.add().Pack(wrong)
        self.metadata = (("grpc-status-details-bin", status.SerializeToString()),)


def unsigned(reason: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", f"the call is not signed as it has to be: {reason}")


class Membership:
    """A controller at an API server."""

    def __init__(self, kind: str, name: str, port: int, sessions) -> None:
        self.sessions, self.registration = sessions, {"type": kind, "name": name, "endpoint": f"grpc://127.0.0.1:{port}"}
        self.id, self.token, self.keys, self.used = "", None, {}, {}
        self.since, self.asked, self.pause = time.time(), 0.0, 5.0

    def post(self, path: str, token: str, body: dict) -> dict:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        url = f"{os.environ['API_SERVER_URL']}/api/v1/controllers/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=10) as answer:
            return json.load(answer)

    async def beat(self) -> None:
        """Registers, or gives a sign of life. The answer has the keys of all API servers."""
        self.asked = time.monotonic()
        if self.token is None:
            answer = await asyncio.to_thread(self.post, "register", os.environ["STREAMSPACE_JOIN_TOKEN"], self.registration)
            self.id, self.token = answer["controller_id"], answer["auth_token"]
            print("registered as", self.id, flush=True)
        else:
            sign = {"status": "healthy", "current_sessions": self.sessions.count()}
            answer = await asyncio.to_thread(self.post, f"{self.id}/heartbeat", self.token, sign)
        self.keys = {key["kid"]: jwt.PyJWK(key) for key in answer["keys"]["keys"]}
        self.sessions.epoch = max(self.sessions.epoch, answer["epoch"])
        parts = re.findall(r"([\d.]+)(ms|s|m|h)", answer["heartbeat_interval"])
        self.pause = sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)

    async def live(self) -> None:
        while True:
            try:
                await self.beat()
            except OSError as error:
                print("no sign of life:", error, flush=True)
                if isinstance(error, urllib.error.HTTPError) and error.code in (401, 404):
                    self.token = None  # with the join token again
            await asyncio.sleep(self.pause)

    async def verify(self, method: str, body: bytes, metadata: dict) -> None:
        """Refuses what no API server has signed for this controller, this method, this body and this minute, once."""
        if not self.id:  # the server may be faster than the answer to the registration, and tries again at this reason
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "NOT_REGISTERED", "this controller is not registered yet")
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        try:
            key = jwt.get_unverified_header(token).get("kid")
            if key not in self.keys and time.monotonic() > self.asked + 1:
                await self.beat()  # of a server that has just come
            if key not in self.keys:
                raise unsigned("the key is not known")
            said = jwt.decode(token, self.keys[key], ["EdDSA"], audience=self.id, issuer="streamspace", leeway=30,
                              options={"require": CLAIMS})
        except (jwt.PyJWTError, OSError) as error:
            raise unsigned(str(error)) from error
        frame = b"\0" + len(body).to_bytes(4, "big") + body
        digest = base64.urlsafe_b64encode(hashlib.sha256(frame).digest()).rstrip(b"=").decode()
        if (said["mth"], said["bdy"]) != (method, digest):
            raise unsigned("it is for another call")
        if said["exp"] > said["iat"] + 60 or said["iat"] + 30 < self.since:
            raise unsigned("it is good for too long, or from before the start")
        if said["jti"] in self.used:
            raise unsigned("it was made before")
        now = time.time()
        self.used = {jti: end for jti, end in self.used.items() if end > now} | {said["jti"]: said["exp"] + 30}


async def serve(kind: str, name: str, sessions) -> None:
    """Serves the methods of `sessions`, which have the names of the RPCs; those that it has not are unimplemented."""
    server = grpc.aio.server()
    membership = Membership(kind, name, server.add_insecure_port("127.0.0.1:0"), sessions)

    def handler(rpc) -> grpc.RpcMethodHandler:
        path, read = f"/{SERVICE.full_name}/{rpc.name}", GetMessageClass(rpc.input_type).FromString

        async def one(body: bytes, context):
            try:
                await membership.verify(path, body, dict(context.invocation_metadata()))
                request = read(body)
                sessions.check(request)
                return getattr(sessions, rpc.name)(request)
            except Refusal as refusal:
                await context.abort(refusal.code, str(refusal), refusal.metadata)

        async def many(body: bytes, context):
            async for answer in await one(body, context):
                yield answer

        def write(answer) -> bytes:
            return answer.SerializeToString()

        if rpc.server_streaming:
            return grpc.unary_stream_rpc_method_handler(many, None, write)
        return grpc.unary_unary_rpc_method_handler(one, None, write)

    handlers = {rpc.name: handler(rpc) for rpc in SERVICE.methods if hasattr(sessions, rpc.name)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)])
    await server.start()
    await membership.live()
