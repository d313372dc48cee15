"""The store over HTTP: server, client, and the wire format between them."""
