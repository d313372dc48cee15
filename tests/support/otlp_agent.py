"""An agent that traces with OpenTelemetry's SDK and knows nothing of the store but an address:

    python -m tests.support.otlp_agent <endpoint> <rollout id> <attempt id> <compression>

Prints the number of spans that it has made, and what its exporter logged.
"""

import logging
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

STEPS = 20


def main(endpoint: str, rollout_id: str, attempt_id: str, compression: str) -> None:
    """Trace a few steps and a reward."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s %(message)s")
    resource = Resource.create(
        {"service.name": "agent", "agentlightning.rollout_id": rollout_id, "agentlightning.attempt_id": attempt_id}
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint, compression=Compression(compression))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("tests.agent", "1.2", attributes={"flavour": "test"})
    with tracer.start_as_current_span("agent") as root:
        for step in range(STEPS):
            links = [Link(root.get_span_context(), {"step": step})]
            with tracer.start_as_current_span(f"step {step}", kind=SpanKind.CLIENT, links=links) as span:
                span.set_attributes({"n": step, "ratio": 0.5, "ok": True, "texts": ["a", "ü"], "text": "x" * 1000})
                span.add_event("thought", {"n": step})
        root.set_status(Status(StatusCode.ERROR, "gone wrong"))
    reward: dict[str, AnyValue] = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 0.75}
    tracer.start_span("agentlightning.annotation", attributes=reward).end()
    provider.shutdown()
    sys.stdout.write(f"{STEPS + 2}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
