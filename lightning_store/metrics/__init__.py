"""Metrics in the formats of Prometheus: what the server, the daemon and the runners tell of themselves.

It needs the extra `metrics`; nothing outside of this package imports prometheus-client, so all else works without it.
"""
