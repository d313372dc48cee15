"""Our stores for programs that are written for Agent Lightning 0.3; needs the extra `agentlightning`."""

try:
    from lightning_store.integrations.agentlightning.store import AgentLightningStore
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "agentlightning":
        raise
    raise ModuleNotFoundError(
        f"{error}; pip install 'lightning-store[agentlightning]' installs Agent Lightning 0.3", name=error.name
    ) from error

__all__ = ["AgentLightningStore"]
