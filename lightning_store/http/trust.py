"""Whose certificates a client trusts, and what it says of one that it does not."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lightning_store.errors import InvalidRequestError

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

_ADVICE: Final = "trust it, or who vouches for it, with ca_file or the variable SSL_CERT_FILE"
_ADVICE_BY_CODE: Final = {
    9: "the clocks of the two hosts may differ",  # not valid yet
    10: "it has to be renewed",  # expired
    62: "connect by a name that it is for",  # another host
    64: "connect by a name that it is for",  # another address
}
"""What to do, by OpenSSL's codes."""


@dataclass(frozen=True)
class Trust:
    """What a client trusts and shows, as `LightningStoreClient` takes it."""

    ca_file: str | None = None
    ca_data: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext | bool:
        """The same as aiohttp takes it.

        Raises:
            InvalidRequestError: A file cannot be read, or is not what it should be; the message names it.
        """
        if self.ca_file is None and self.ca_data is None and self.cert_file is None:
            return self.verify
        context = ssl.create_default_context()
        # Then a certificate that was given is trusted by itself, also if another vouches for it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            if self.ca_file is not None or self.ca_data is not None:
                context.load_verify_locations(self.ca_file, cadata=self.ca_data)
        except OSError as error:
            raise InvalidRequestError(f"ca_file {self.ca_file}: {_reason(error, 'certificates')}") from error
        try:
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:
            files = f"cert_file {self.cert_file}, key_file {self.key_file or 'none'}"
            raise InvalidRequestError(f"{files}: {_reason(error, 'a certificate and its private key')}") from error
        return context


def _reason(error: OSError, expected: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"expected {expected} in PEM"
    return error.strerror or "it cannot be read"


def distrust(host: str, error: Exception) -> str:
    """Why a certificate is not trusted, and what to do.

    Args:
        host: Whose it is, with the port.
        error: What the handshake ended with.
    """
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not trusted ({error}): {_ADVICE}"
    reason = error.verify_message.rstrip(".")
    return f"the certificate of {host} is not trusted ({reason}): {_ADVICE_BY_CODE.get(error.verify_code, _ADVICE)}"


def certificates_in(file: str) -> str:
    """The certificates in a PEM file, without the keys that may be there too.

    Raises:
        InvalidRequestError: It cannot be read, or there are none.
    """
    try:
        text = Path(file).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise InvalidRequestError(f"certificate {file}: {error.strerror or 'it cannot be read'}") from error
    found = _BLOCK.findall(text)
    if not found:
        raise InvalidRequestError(f"certificate {file}: expected certificates in PEM")
    return "\n".join(found)
