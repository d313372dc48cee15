"""The socket that a server listens on, and its certificate."""

import errno
import os
import socket
import ssl
from typing import Final

from lightning_store.addresses import shown
from lightning_store.errors import InvalidRequestError, LightningStoreError
from lightning_store.http.options import ServerOptions

BACKLOG: Final = 2048
_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there: stop it, choose another port, or port 0 for a free one",
    errno.EACCES: "ports below 1024 are for root: choose another",
    errno.EADDRNOTAVAIL: "this machine does not have that address: choose 127.0.0.1, 0.0.0.0 or one of its own",
}


class CannotListenError(LightningStoreError, OSError):
    """The address cannot be listened on; the message names it and says what to do."""

    code = "CANNOT_LISTEN"
    http_status = 503


def check_exposure(options: ServerOptions, *, has_tokens: bool) -> None:
    """Refuse to let other machines in without tokens.

    Raises:
        InvalidRequestError: They could connect, and no token would be asked for.
    """
    if not has_tokens and not options.is_local:
        raise InvalidRequestError(
            f"host: {options.host} can be reached from other machines, which needs tokens: give some (in a file, or in "
            "the variable LIGHTNING_STORE_TOKENS), or listen on 127.0.0.1"
        )


def listen(options: ServerOptions) -> socket.socket:
    """A socket that listens at host and port; connections wait in it until somebody accepts them.

    Raises:
        CannotListenError: It cannot be listened on.
    """
    address = (options.host, options.port)
    try:
        family, _, _, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:  # gaierror is one
        raise CannotListenError(error.errno, f"cannot listen on {shown(address)}: there is no such host") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # So that a restart need not wait for connections of before; two servers on one port it does not allow.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        number = error.errno or 0
        hint = _HINTS.get(number, os.strerror(number))
        raise CannotListenError(number, f"cannot listen on {shown(address)}: {hint}") from error
    listener.setblocking(False)
    return listener


def tls_context(options: ServerOptions) -> ssl.SSLContext | None:
    """The certificate and what is demanded of clients, read from the files; None without TLS.

    Raises:
        InvalidRequestError: A file cannot be read, or is not what it should be.
    """
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, options)
    if options.tls_client_ca is not None:
        try:
            context.load_verify_locations(options.tls_client_ca)
        except OSError as error:
            reason = "expected certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise InvalidRequestError(f"tls_client_ca {options.tls_client_ca}: {reason}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, options: ServerOptions) -> None:
    """Read certificate and key, which hold for connections from now on.

    Raises:
        InvalidRequestError: A file cannot be read, or is not what it should be.
    """
    if options.tls_cert is None:
        return
    try:
        # A key with a passphrase would have OpenSSL ask for it on the terminal.
        context.load_cert_chain(options.tls_cert, options.tls_key, password="")
    except ssl.SSLError as error:
        reason = (
            f"expected a certificate and its private key in PEM, without a passphrase ({error.reason or 'unreadable'})"
        )
        raise InvalidRequestError(f"tls_cert {options.tls_cert}, tls_key {options.tls_key}: {reason}") from error
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise InvalidRequestError(f"tls_cert {options.tls_cert}, tls_key {options.tls_key}: {reason}") from error
