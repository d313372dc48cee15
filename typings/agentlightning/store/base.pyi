from typing import TypedDict

class Unset: ...

class LightningStoreCapabilities(TypedDict, total=False):
    thread_safe: bool
    async_safe: bool
    zero_copy: bool
    otlp_traces: bool

class LightningStore:
    @property
    def capabilities(self) -> LightningStoreCapabilities: ...
    def otlp_traces_endpoint(self) -> str: ...
