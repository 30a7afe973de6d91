"""What went wrong on the network, as a reason and a word: the one place that knows aiohttp's exceptions.

A word says only what holds however the bytes were cut into packets: nonsense after a header is reported with the header when
both came in one packet and with the body when not, so `http.malformed` has no word.
"""

import asyncio
import errno
import ssl
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

from pipelines.fetch.connector import UncheckedAddressError
from schemas.reasons import Reason, Refused

_CERTIFICATE_WORDS: Final = {  # OpenSSL's X509_V_ERR_*
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    19: "self_signed",
    20: "unknown_issuer",
    21: "unknown_issuer",
    62: "wrong_host",
    64: "wrong_host",
}
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)


def refused(error: Exception) -> Refused:
    """The refusal that an exception before or in the response's header stands for."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Refused(Reason.TLS, _certificate_word(error.certificate_error))
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Refused(Reason.TLS, "handshake")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connecting(error.os_error)
    if isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError | ConnectionError):
        return Refused(Reason.RESET, "header")
    if isinstance(error, aiohttp.ClientResponseError):
        return Refused(Reason.HTTP_MALFORMED)
    if isinstance(error, aiohttp.InvalidURL):
        return Refused(Reason.URL_INVALID, "client")
    return Refused(Reason.INTERNAL, f"fetch:{type(error).__name__}"[:120])


def refused_in_body(error: Exception, protocol: ResponseHandler | None) -> Refused:
    """The refusal that an exception while reading the body stands for."""
    if was_reset(protocol) or isinstance(error, aiohttp.ClientOSError | ConnectionError | ssl.SSLError):
        return Refused(Reason.RESET, "body")
    if not isinstance(error, aiohttp.ClientPayloadError):
        return refused(error)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ContentLengthError):
        return Refused(Reason.LENGTH_MISMATCH, "short")
    if isinstance(cause, TransferEncodingError) and protocol is not None and _has_ended(protocol):
        return Refused(Reason.LENGTH_MISMATCH, "chunked")
    return Refused(Reason.HTTP_MALFORMED)


def was_reset(protocol: ResponseHandler | None) -> bool:
    """Whether the connection broke. A body that ends with its connection looks complete to aiohttp even then."""
    return protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError | ConnectionError)


def _has_ended(protocol: ResponseHandler) -> bool:
    return isinstance(protocol.exception(), aiohttp.ServerDisconnectedError)


def _certificate_word(error: Exception) -> str:
    code = getattr(error, "verify_code", None)
    return f"certificate:{_CERTIFICATE_WORDS.get(code or 0, 'invalid')}"


def _connecting(error: OSError) -> Refused:
    if isinstance(error, UncheckedAddressError):
        return Refused(Reason.POLICY_PRIVATE_ADDRESS, "unchecked")
    if error.errno in _OUT_OF_FILES:
        return Refused(Reason.INTERNAL, "fetch:open_files")
    if isinstance(error, ConnectionRefusedError):
        return Refused(Reason.CONNECT, "refused")
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return Refused(Reason.RESET, "handshake")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Refused(Reason.CONNECT, "timeout")
    return Refused(Reason.CONNECT, "unreachable" if error.errno in _UNREACHABLE else "")
