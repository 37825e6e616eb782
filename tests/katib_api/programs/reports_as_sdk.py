"""A trial that reports as ``report_metrics`` of Katib's SDK 0.19 does: the same call, of messages of Katib's own.

Katib's descriptor is beside the tests, so that nothing of katib-flow's is in this program. Each argument is a report:
``accuracy=0.5,loss=1``. ``--as NAME`` reports under another trial's name; ``--raw`` sends bytes that are no message.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

described = Path(__file__).parents[1] / "katib-0.19-api.binpb"
pool = descriptor_pool.DescriptorPool()
pool.Add(descriptor_pb2.FileDescriptorProto.FromString(described.read_bytes()))
METHOD = "/api.v1.beta1.DBManager/ReportObservationLog"


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"api.v1.beta1.{name}"))


def report_metrics(metrics, db_manager_address, name):
    channel = grpc.insecure_channel(db_manager_address)
    call = channel.unary_unary(
        METHOD,
        request_serializer=message("ReportObservationLogRequest").SerializeToString,
        response_deserializer=message("ReportObservationLogReply").FromString,
    )
    timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    logs = [
        message("MetricLog")(time_stamp=timestamp, metric=message("Metric")(name=key, value=str(value)))
        for key, value in metrics.items()
    ]
    request = message("ReportObservationLogRequest")(
        trial_name=name, observation_log=message("ObservationLog")(metric_logs=logs)
    )
    call(request, timeout=120)


address, name = os.environ["KATIB_DB_MANAGER_ADDRESS"], os.getenv("KATIB_TRIAL_NAME")
words = sys.argv[1:]
if words[:1] == ["--as"]:
    name, words = words[1], words[2:]
if words[:1] == ["--raw"]:
    grpc.insecure_channel(address).unary_unary(METHOD)(b"\xff\xff", timeout=120)
for word in words:
    report_metrics(dict(pair.split("=") for pair in word.split(",")), address, name)
