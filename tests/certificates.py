"""Certificates that the tests of TLS use, made afresh for each run."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

HOST = 'localhost'
PASSWORD = 'open, sesame'

# Long past, as whoever runs the tests may have a clock that is wrong.
_EXPIRED = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, as PEM files.

    certfile: the certificate, then those between it and the root
    keyfile: its private key
    combined: both in one file
    der: the certificate alone, in binary
    """

    certfile: Path
    keyfile: Path
    combined: Path
    der: bytes


class Certificates:
    """A certification authority and what it has signed.

    cafile: the authority's own certificate
    capath: a directory that holds it as `openssl rehash` would leave it
    server: for localhost, 127.0.0.1 and ::1
    client: for client@example.org, which proves who a client is
    second: for second.example, a further name of the server (SNI)
    wildcard: for *.example.org
    chained: for localhost, signed by an authority that `cafile` has signed
    expired: for localhost, valid until the year 2001
    wrong_host: for wrong.example
    locked: for localhost, its key encrypted with PASSWORD
    stranger: for localhost, but of an authority that nobody trusts
    stranger_cafile: that authority's certificate
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ca = trustme.CA(organization_name='twspy tests')
        other = trustme.CA(organization_name='somebody else')
        self.cafile = self._write('ca.pem', ca.cert_pem.bytes())
        self.capath = self._hash(ca)
        self.server = self._issue(ca, 'server', HOST, '127.0.0.1', '::1')
        self.client = self._issue(ca, 'client', 'client@example.org')
        self.second = self._issue(ca, 'second', 'second.example')
        self.wildcard = self._issue(ca, 'wildcard', '*.example.org')
        self.chained = self._issue(ca.create_child_ca(), 'chained', HOST)
        self.expired = self._issue(ca, 'expired', HOST, not_after=_EXPIRED)
        self.wrong_host = self._issue(ca, 'wrong_host', 'wrong.example')
        self.locked = self._lock(self._issue(ca, 'locked', HOST))
        self.stranger = self._issue(other, 'stranger', HOST)
        self.stranger_cafile = self._write(
            'stranger_ca.pem', other.cert_pem.bytes()
        )

    def server_context(
        self, identity: Identity | None = None, *, asks: bool = False
    ) -> ssl.SSLContext:
        """What a server of the standard library needs.

        asks: whether clients must have a certificate
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        identity = identity or self.server
        context.load_cert_chain(identity.certfile, identity.keyfile)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.cafile)
        return context

    def client_context(
        self, identity: Identity | None = None
    ) -> ssl.SSLContext:
        """What a client of the standard library needs; it trusts `cafile`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cafile)
        if identity is not None:
            context.load_cert_chain(identity.certfile, identity.keyfile)
        return context

    def _issue(
        self,
        ca: trustme.CA,
        name: str,
        *identities: str,
        not_after: datetime.datetime | None = None,
    ) -> Identity:
        made = ca.issue_cert(
            *identities, common_name=identities[0], not_after=not_after
        )
        chain = [pem.bytes() for pem in made.cert_chain_pems]
        key = made.private_key_pem.bytes()
        return Identity(
            certfile=self._write(f'{name}.pem', b''.join(chain)),
            keyfile=self._write(f'{name}.key', key),
            combined=self._write(
                f'{name}_and_key.pem', b''.join([key, *chain])
            ),
            der=ssl.PEM_cert_to_DER_cert(chain[0].decode()),
        )

    def _lock(self, identity: Identity) -> Identity:
        """Encrypt its key."""
        key = serialization.load_pem_private_key(
            identity.keyfile.read_bytes(), None
        ).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSWORD.encode()),
        )
        identity.keyfile.write_bytes(key)
        identity.combined.write_bytes(key + identity.certfile.read_bytes())
        return identity

    def _hash(self, ca: trustme.CA) -> Path:
        """A directory with the authority under the name that OpenSSL looks
        for."""
        pem = ca.cert_pem.bytes()
        subject = x509.load_pem_x509_certificate(pem).subject
        self._directory.joinpath('trusted').mkdir()
        return self._write(f'trusted/{_hash_name(subject)}.0', pem).parent

    def _write(self, name: str, data: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(data)
        return path


def _hash_name(name: x509.Name) -> str:
    """What `openssl x509 -subject_hash` prints: a digest over the RDNs with
    their texts in lower case, as UTF-8, single spaces between words."""
    der = name.public_bytes()
    assert der[1] < 128, 'the name is too long for a length in one byte'
    for attribute in name:
        text = str(attribute.value).encode()
        der = der.replace(text, text.lower())
    digest = hashlib.sha1(der[2:]).digest()
    return f'{int.from_bytes(digest[:4], "little"):08x}'
