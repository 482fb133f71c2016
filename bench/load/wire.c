#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOURCES = 200 }; /* addresses to connect from */

/* A session of TLS 1.3 comes with the data, some time after the handshake. */
static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct wire *wire = SSL_get_app_data(ssl);
    SSL_SESSION_free(wire->session);
    wire->session = session;
    return 1; /* the reference is ours now */
}

bool
wire_setup_init(struct wire_setup *setup, bool tls, bool resume)
{
    *setup = (struct wire_setup){.resume = resume};
    if (!tls) {
        return true;
    }
    setup->context = SSL_CTX_new(TLS_client_method());
    if (setup->context == NULL) {
        errno = ENOMEM;
        return false;
    }
    /* Who the server is, its starter knows. */
    SSL_CTX_set_verify(setup->context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(setup->context, SSL_MODE_ENABLE_PARTIAL_WRITE
                                         | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                         | SSL_MODE_RELEASE_BUFFERS);
    if (resume) {
        SSL_CTX_set_session_cache_mode(setup->context,
                                       SSL_SESS_CACHE_CLIENT
                                           | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(setup->context, keep_session);
    }
    return true;
}

void
wire_setup_release(struct wire_setup *setup)
{
    SSL_CTX_free(setup->context);
    setup->context = NULL;
}

bool
wire_dial(struct wire *wire, const struct sockaddr_in *to, uint32_t number)
{
    const int on = 1;
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES),
    };
    wire->wants_write = false;
    wire->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (wire->fd < 0) {
        return false;
    }
    if (setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0
        || setsockopt(wire->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
                      sizeof(on))
               != 0
        || bind(wire->fd, (const struct sockaddr *)&from, sizeof(from)) != 0) {
        return false;
    }
    return connect(wire->fd, (const struct sockaddr *)to, sizeof(*to)) == 0
           || errno == EINPROGRESS;
}

int
wire_error(const struct wire *wire)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        return errno;
    }
    return error;
}

/* What a call of OpenSSL's that did not succeed comes to. */
static int
status_of(struct wire *wire, int result)
{
    int error = SSL_get_error(wire->ssl, result);
    wire->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return WIRE_AGAIN;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    unsigned long reason = ERR_peek_last_error();
    ERR_clear_error();
    if (ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return 0; /* ends as a plain connection does */
    }
    if (errno == 0) {
        errno = EPROTO;
    }
    return WIRE_FAILED;
}

int
wire_secure(struct wire *wire, const struct wire_setup *setup)
{
    if (wire->ssl == NULL) {
        wire->ssl = SSL_new(setup->context);
        if (wire->ssl == NULL || SSL_set_fd(wire->ssl, wire->fd) != 1
            || SSL_set_tlsext_host_name(wire->ssl, "localhost") != 1) {
            errno = ENOMEM;
            return WIRE_FAILED;
        }
        SSL_set_app_data(wire->ssl, wire);
        if (setup->resume && wire->session != NULL
            && SSL_set_session(wire->ssl, wire->session) != 1) {
            errno = EINVAL;
            return WIRE_FAILED;
        }
    }
    ERR_clear_error();
    errno = 0;
    int result = SSL_connect(wire->ssl);
    return result == 1 ? 1 : status_of(wire, result);
}

ptrdiff_t
wire_read(struct wire *wire, uint8_t *data, size_t size)
{
    if (wire->ssl == NULL) {
        ssize_t got = recv(wire->fd, data, size, 0);
        if (got < 0) {
            return errno == EAGAIN || errno == EINTR ? WIRE_AGAIN
                                                     : WIRE_FAILED;
        }
        return got;
    }
    size_t got = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(wire->ssl, data, size, &got);
    return result == 1 ? (ptrdiff_t)got : status_of(wire, result);
}

ptrdiff_t
wire_write(struct wire *wire, const uint8_t *data, size_t size)
{
    if (wire->ssl == NULL) {
        ssize_t put = send(wire->fd, data, size, MSG_NOSIGNAL);
        if (put < 0) {
            return errno == EAGAIN || errno == EINTR ? WIRE_AGAIN
                                                     : WIRE_FAILED;
        }
        return put;
    }
    size_t put = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(wire->ssl, data, size, &put);
    if (result == 1) {
        return (ptrdiff_t)put;
    }
    int status = status_of(wire, result);
    return status == 0 ? WIRE_FAILED : status;
}

bool
wire_pending(const struct wire *wire)
{
    return wire->ssl != NULL && SSL_has_pending(wire->ssl) == 1;
}

bool
wire_resumed(const struct wire *wire)
{
    return wire->ssl != NULL && SSL_session_reused(wire->ssl) == 1;
}

void
wire_close(struct wire *wire)
{
    if (wire->ssl != NULL) {
        /* Without it OpenSSL would not have the session used again. */
        SSL_set_shutdown(wire->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(wire->ssl);
        wire->ssl = NULL;
    }
    if (wire->fd >= 0) {
        close(wire->fd);
    }
    wire->fd = -1;
}
