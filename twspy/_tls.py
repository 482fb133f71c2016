"""What the C code asks Python to do for TLS: reading `ssl_args`, keeping
contexts, certificates as objects, and bridges to `ssl.SSLContext`."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .tls import Certificate, SSLArgs, check_names, check_ssl_args

if TYPE_CHECKING:
    from ssl import SSLContext

    from ._tls_bridge import Bridged
    from ._twspy import _TLSContext

_MOST_CONTEXTS = 32

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


class _Contexts:
    """The contexts of clients, so that equal options share one: each costs
    megabytes of parsed certificates, and remembers sessions to resume."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _TLSContext] = OrderedDict()

    def get(self, args: SSLArgs) -> _TLSContext:
        """The context for a client with these options; the oldest goes where
        there are too many."""
        key = args, _versions(args)
        with self._lock:
            context = self._kept.get(key)
            if context is None:
                context = make_context(args, server_side=False)
                self._kept[key] = context
                if len(self._kept) > _MOST_CONTEXTS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return context


def _versions(args: SSLArgs) -> tuple[object, ...]:
    """What tells that a file is not the one that was read before."""
    names = [args.cafile, args.capath]
    names += [name for one in args.certificates for name in one[1:3]]
    versions = []
    for name in names:
        try:
            status = os.stat(name) if name is not None else None
        except OSError:
            status = None  # whoever reads it will say so
        if status is not None:
            versions.append(
                (status.st_ino, status.st_size, status.st_mtime_ns)
            )
    return tuple(versions)


_contexts = _Contexts()


def make_context(
    args: SSLArgs,
    server_side: bool,
    previous: _TLSContext | None = None,
) -> _TLSContext:
    """Read the files that `args` name. SSLError or OSError where that fails.

    previous: a server's context that this one follows; its session tickets
    stay good.
    """
    # It imports this module before it is ready.
    from ._twspy import _TLSContext

    # Asked for once, though there may be several keys.
    password = args.read_password()
    return _TLSContext(
        server_side=server_side,
        certificates=tuple(
            (name, certfile, keyfile, password)
            for name, certfile, keyfile in args.certificates
        ),
        verify=args.require_client_cert if server_side else args.verify,
        cafile=args.cafile,
        capath=args.capath,
        ciphers=args.ciphers,
        minimum_version=args.minimum_version,
        alpn=args.alpn,
        previous=previous,
    )


class SSLSettings:
    """What `enable_ssl()` was called with.

    server_hostname: the name or address that a server's certificate must be
    for; None: the host that the client connects to
    """

    def __init__(
        self, context: SSLContext | None = None, **ssl_args: Any
    ) -> None:
        self.server_hostname: str | None = ssl_args.get('server_hostname')
        self._context = context
        self._args = ssl_args
        self._made: _TLSContext | None = None
        if context is not None:
            _check_context(context, ssl_args)
        else:
            check_names(ssl_args)

    def context_for(self, server_side: bool) -> Any:
        """The context for one side, a `_TLSContext` or the SSLContext."""
        if self._context is not None:
            return self._context
        if not server_side:
            return _contexts.get(check_ssl_args(self._args, False))
        if self._made is None:
            self._made = make_context(check_ssl_args(self._args, True), True)
        return self._made

    def renew(self) -> Any:
        """Read a server's files again and return the new context."""
        if self._context is not None:
            raise RuntimeError(
                'the server has an ssl.SSLContext: call load_cert_chain() on '
                'it, which counts for new connections'
            )
        args = check_ssl_args(self._args, True)
        self._made = make_context(args, True, self._made)
        return self._made


def server_settings(
    context: SSLContext | None, ssl_args: Mapping[str, Any] | None
) -> SSLSettings | None:
    """What a server encrypts with, checked and read; None: nothing."""
    if context is None and ssl_args is None:
        return None
    if context is not None and ssl_args is not None:
        raise TypeError('both ssl and ssl_args are given, expected one')
    if ssl_args is None:
        settings = SSLSettings(context)
    elif isinstance(ssl_args, Mapping):
        settings = SSLSettings(**ssl_args)
    else:
        raise TypeError(
            f'ssl_args is {type(ssl_args).__name__}, expected a mapping such '
            "as {'certfile': 'server.pem'}"
        )
    settings.context_for(server_side=True)
    return settings


def _check_context(context: object, others: dict[str, Any]) -> None:
    """TypeError where it is no SSLContext, or stands beside what it has."""
    import ssl

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f'the TLS context is {type(context).__name__}, expected an '
            'ssl.SSLContext (ssl_args names files instead)'
        )
    beside = sorted(set(others) - {'server_hostname'})
    if beside:
        raise TypeError(
            f'{beside[0]} beside context: set it on the SSLContext'
        )


def read_certificate(der: bytes) -> Certificate:
    """What a peer has sent, as an object."""
    from ._twspy import _parse_certificate

    [subject, issuer, serial, before, after, names] = _parse_certificate(der)
    return Certificate(
        der, subject, issuer, serial, _time(before), _time(after), names
    )


def _time(seconds: int) -> datetime:
    """A time since 1970; those that datetime does not have are cut."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return _FIRST if seconds < 0 else _LAST


def start_bridge(
    context: SSLContext,
    descriptor: int,
    server_side: bool,
    server_hostname: str | None,
    open_timeout: float | None,
) -> Bridged:
    """Take over a connected socket, also where this fails, and encrypt what
    goes over it."""
    from ._tls_bridge import start

    try:
        return start(
            context,
            descriptor,
            server_side=server_side,
            server_hostname=server_hostname,
            open_timeout=open_timeout,
        )
    except BaseException:
        os.close(descriptor)
        raise
