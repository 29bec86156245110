"""A small shop over gRPC, as an example of a service that layerlab knows nothing of.

Needs grpcio, grpcio-tools, grpcio-reflection and grpcio-health-checking:

    python3 -m pip install -r requirements.txt
    python3 server.py --port 50051 --id a --work-ms 4
"""

import argparse
import os
import pathlib
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

sys.path.insert(0, str(pathlib.Path(__file__).parent))
protos, services = grpc.protos_and_services("shop.proto")


class Orders(services.OrdersServicer):
    """Works on one call for a while, as a service with a database would."""

    def __init__(self, server_id, work_s, token):
        self.server_id = server_id
        self.work_s = work_s
        self.token = token
        self.calls = 0
        self.lock = threading.Lock()

    def begin(self, context):
        """Counts the call, says who serves it, and refuses callers without the token."""
        with self.lock:
            self.calls += 1
        context.send_initial_metadata((("x-served-by", self.server_id),))
        given = dict(context.invocation_metadata()).get("authorization")
        if self.token and given != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")

    def Place(self, request, context):
        self.begin(context)
        if not request.customer:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an order needs a customer")
        time.sleep(self.work_s)
        order = f"{request.customer}-{len(request.lines)}"
        return protos.PlaceResponse(order=order, state=protos.STATE_OPEN)

    def Watch(self, request, context):
        self.begin(context)
        for state in (protos.STATE_OPEN, protos.STATE_PAID, protos.STATE_SHIPPED):
            yield protos.OrderState(order=request.order, state=state)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--id", default="a", help="sent as x-served-by")
    work_ms = float(os.environ.get("WORK_MS", 4))
    parser.add_argument("--work-ms", type=float, default=work_ms, help="time a call takes")
    parser.add_argument("--threads", type=int, default=8, help="calls worked on at once")
    parser.add_argument("--token", default="", help="asked of every call, if given")
    parser.add_argument("--no-reflection", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    orders = Orders(args.id, args.work_ms / 1000, args.token)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=args.threads))
    services.add_OrdersServicer_to_server(orders, server)
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    if not args.no_reflection:
        names = [protos.DESCRIPTOR.services_by_name["Orders"].full_name]
        reflection.enable_server_reflection(names + [reflection.SERVICE_NAME], server)
    port = server.add_insecure_port(f"{args.host}:{args.port}")
    server.start()
    print(f"{args.id} listens at {args.host}:{port}", flush=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    server.stop(grace=5).wait()
    print(f"{args.id} served {orders.calls} calls", flush=True)


if __name__ == "__main__":
    main()
