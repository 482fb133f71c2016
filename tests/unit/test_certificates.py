"""The certificates that the tests of TLS rely on are what they say."""

import ssl

import pytest
from certificates import HOST, PASSWORD, Certificates, Identity
from rawends import in_thread, tcp_pair


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = HOST
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Connects one with the other by TLS."""
    one, two = tcp_pair()
    for sock in (one, two):
        sock.settimeout(10)
    join = in_thread(lambda: server.wrap_socket(one, server_side=True))
    try:
        there = client.wrap_socket(two, server_hostname=host)
    except BaseException:
        two.close()
        raise
    finally:
        here = join()
        if isinstance(here, BaseException):
            one.close()
    assert isinstance(here, ssl.SSLSocket)
    return here, there


def fails(certificates: Certificates, identity: Identity) -> str:
    """Why a client does not trust a server."""
    server = certificates.server_context(identity)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(server, certificates.client_context())
    return caught.value.verify_message


@pytest.mark.parametrize('name', ['server', 'chained'])
@pytest.mark.parametrize('combined', [False, True])
def test_good_servers_are_trusted(
    certificates: Certificates, name: str, combined: bool
) -> None:
    identity: Identity = getattr(certificates, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if combined:
        context.load_cert_chain(identity.combined)
    else:
        context.load_cert_chain(identity.certfile, identity.keyfile)
    here, there = shake_hands(context, certificates.client_context())
    with here, there:
        assert there.getpeercert(binary_form=True) == identity.der


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_server_has_addresses(certificates: Certificates, host: str) -> None:
    here, there = shake_hands(
        certificates.server_context(), certificates.client_context(), host
    )
    with here, there:
        assert there.version() == 'TLSv1.3'


@pytest.mark.parametrize(
    ('name', 'host'),
    [('second', 'second.example'), ('wildcard', 'a.example.org')],
)
def test_further_names(
    certificates: Certificates, name: str, host: str
) -> None:
    context = certificates.server_context(getattr(certificates, name))
    here, there = shake_hands(context, certificates.client_context(), host)
    with here, there:
        assert there.server_hostname == host


def test_directory_of_authorities(certificates: Certificates) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(capath=certificates.capath)
    here, there = shake_hands(certificates.server_context(), client)
    with here, there:
        assert there.version() == 'TLSv1.3'


def test_client_can_prove_who_it_is(certificates: Certificates) -> None:
    here, there = shake_hands(
        certificates.server_context(asks=True),
        certificates.client_context(certificates.client),
    )
    with here, there:
        found = here.getpeercert()
        assert found is not None
        assert found['subjectAltName'] == (('email', 'client@example.org'),)


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('expired', 'certificate has expired'),
        ('stranger', 'unable to get local issuer certificate'),
        ('wrong_host', 'Hostname mismatch, certificate is not valid for'),
    ],
)
def test_bad_servers(
    certificates: Certificates, name: str, reason: str
) -> None:
    assert reason in fails(certificates, getattr(certificates, name))


def test_stranger_is_trusted_by_those_who_know_it(
    certificates: Certificates,
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificates.stranger_cafile)
    server = certificates.server_context(certificates.stranger)
    here, there = shake_hands(server, client)
    with here, there:
        assert there.version() == 'TLSv1.3'


@pytest.mark.parametrize('password', [PASSWORD, 'wrong'])
def test_locked_key(certificates: Certificates, password: str) -> None:
    locked = certificates.locked
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def load() -> None:
        context.load_cert_chain(locked.certfile, locked.keyfile, password)

    if password == PASSWORD:
        load()
    else:
        with pytest.raises(ssl.SSLError):
            load()
