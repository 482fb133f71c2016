#include "net/tls.h"

#include "net/tls_parts.h"

#include <openssl/err.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The payload of a full record (RFC 8446 §5.1). */
enum { RECORD = 16384 };

/* A server's peer has no reason to send half a message (a KeyUpdate has five
 * bytes), and as long as the rest is missing OpenSSL writes nothing: whoever
 * waits for room would turn in circles. A client's may send a ticket in
 * parts. */
enum { STALLS_OF_CLIENT = 4096 };

/* TWS_OK where the connection may be used. */
static enum tws_status
check_lock_held(const struct tws_tls *tls, struct tws_error *err)
{
    if (tls->error.status != TWS_OK) {
        *err = tls->error;
        return err->status;
    }
    if (!tls->secured) {
        return tws_error_tls(err, "the TLS handshake is not done");
    }
    return TWS_OK;
}

/* ------------------------------------------------------------ handshake */

static enum tws_status
tls_secure(struct tws_transport *transport, unsigned *events,
           struct tws_error *err)
{
    struct tws_tls *tls = transport->tls;
    enum tws_status status = TWS_OK;
    pthread_mutex_lock(&tls->lock);
    if (tls->error.status != TWS_OK) {
        *err = tls->error;
        status = err->status;
    }
    else if (!tls->secured) {
        status = tws_tls_shake_lock_held(tls, events, err);
    }
    pthread_mutex_unlock(&tls->lock);
    return status;
}

/* -------------------------------------------------------------- reading */

/* A peer that sends records without data would keep us busy for nothing. */
static void
note_record(int writing, int version, int type, const void *data,
            size_t length, SSL *ssl, void *argument)
{
    struct tws_tls *tls = argument;
    (void)version;
    (void)data;
    (void)length;
    (void)ssl;
    if (writing == 0 && type == SSL3_RT_HEADER && tls->shaken) {
        tls->barren++;
        if (tls->barren > TWS_TLS_BARREN_RECORDS
            && tls->error.status == TWS_OK) {
            (void)tws_error_tls(&tls->error,
                                "the peer sent %d records without data",
                                TWS_TLS_BARREN_RECORDS);
        }
    }
}

/* What SSL_get_error() would take for ours. Clearing costs a twentieth of an
 * echo, and there is hardly ever one. */
static void
forget_errors(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

/* Neither the descriptor nor OpenSSL has more of what was sent: another
 * SSL_read() would only get itself a buffer and say so. */
static bool
has_all(const struct tws_tls *tls)
{
    return tls->dry && tls->error.status == TWS_OK
           && SSL_has_pending(tls->ssl) == 0;
}

/* The end of what SSL_read() finds for now. */
static enum tws_status
end_of_reading(struct tws_tls *tls, struct tws_error *err)
{
    if (tls->error.status != TWS_OK) {
        return tws_tls_fail_lock_held(tls, err);
    }
    switch (SSL_get_error(tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return TWS_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return TWS_EOF;
    default:
        return tws_tls_fail_lock_held(tls, err);
    }
}

static enum tws_status
read_lock_held(struct tws_tls *tls, uint8_t *data, size_t size, size_t *got,
               struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    struct tws_error ignored;
    size_t total = 0;
    tws_tls_begin_lock_held(tls, size);
    forget_errors();
    while (total < size) {
        if (total > 0 && has_all(tls)) {
            status = TWS_AGAIN;
            break;
        }
        size_t n = 0;
        if (SSL_read_ex(tls->ssl, data + total, size - total, &n) != 1) {
            status = end_of_reading(tls, err);
            break;
        }
        total += n;
        tls->barren = 0;
    }
    /* Where all room was used, or the end came behind data, the next read
     * has something to say at once. */
    if (status == TWS_OK) {
        tls->more = SSL_has_pending(tls->ssl) == 1 || tws_pending(&tls->inner)
                    || tls->error.status != TWS_OK;
    }
    else if (status == TWS_AGAIN) {
        /* What the budget has left is in the descriptor, which is ready. */
        tls->more = tws_pending(&tls->inner);
    }
    else {
        tls->more = total > 0;
    }
    /* Answers to key updates, and alerts. */
    (void)tws_tls_flush_lock_held(tls, &ignored);
    if (total > 0) {
        *got = total;
        return TWS_OK;
    }
    return status;
}

static enum tws_status
tls_read(struct tws_transport *transport, uint8_t *data, size_t size,
         size_t *got, struct tws_error *err)
{
    struct tws_tls *tls = transport->tls;
    pthread_mutex_lock(&tls->lock);
    enum tws_status status = check_lock_held(tls, err);
    if (status == TWS_OK) {
        status = read_lock_held(tls, data, size, got, err);
    }
    else {
        tls->more = false;
    }
    pthread_mutex_unlock(&tls->lock);
    return status;
}

static bool
tls_pending(struct tws_transport *transport)
{
    return transport->tls->more;
}

/* -------------------------------------------------------------- writing */

/* Where the next byte of the parts is. */
struct cursor {
    const struct iovec *part;
    int parts;   /* from *part on */
    size_t used; /* of *part */
};

static void
skip(struct cursor *cursor, size_t length)
{
    while (cursor->parts > 0
           && length >= cursor->part->iov_len - cursor->used) {
        length -= cursor->part->iov_len - cursor->used;
        cursor->part++;
        cursor->parts--;
        cursor->used = 0;
    }
    cursor->used += length;
}

/* The next record's payload: where it lies, or gathered in `block`. */
static const uint8_t *
next_payload(const struct cursor *cursor, uint8_t block[static RECORD],
             size_t *length)
{
    struct cursor at = *cursor;
    *length = 0;
    skip(&at, 0); /* an empty part may have no address */
    while (at.parts > 0 && *length < RECORD) {
        const uint8_t *data = (const uint8_t *)at.part->iov_base + at.used;
        size_t n = at.part->iov_len - at.used;
        size_t room = RECORD - *length;
        if (*length == 0 && (n >= room || at.parts == 1)) {
            *length = n < room ? n : room;
            return data;
        }
        n = n < room ? n : room;
        memcpy(block + *length, data, n);
        *length += n;
        skip(&at, n);
    }
    return block;
}

/* A record could not be made. */
static enum tws_status
end_of_writing(struct tws_tls *tls, struct tws_error *err)
{
    unsigned limit = tls->context->role == TWS_CLIENT ? STALLS_OF_CLIENT : 0;
    if (tls->error.status == TWS_OK
        && SSL_get_error(tls->ssl, 0) == SSL_ERROR_WANT_READ) {
        tls->stalled++;
        if (tls->stalled <= limit) {
            return TWS_AGAIN;
        }
        (void)tws_error_tls(&tls->error, "the peer sent a part of a message, "
                                         "and not the rest");
    }
    enum tws_status status = tws_tls_fail_lock_held(tls, err);
    return status == TWS_EOF ? tws_error_os(err, EPIPE, "send") : status;
}

/* Encrypts until all is done or room is short; *taken counts. */
static enum tws_status
encrypt_lock_held(struct tws_tls *tls, struct cursor *cursor, size_t *taken,
                  struct tws_error *err)
{
    uint8_t block[RECORD];
    while (cursor->parts > 0 && !tls->blocked
           && tws_buffer_length(&tls->out) < TWS_TLS_FLUSH_AT) {
        size_t length;
        size_t n = 0;
        const uint8_t *payload = next_payload(cursor, block, &length);
        if (length == 0) {
            break; /* only empty parts are left */
        }
        forget_errors();
        if (SSL_write_ex(tls->ssl, payload, length, &n) != 1) {
            return end_of_writing(tls, err);
        }
        tls->stalled = 0;
        skip(cursor, n);
        *taken += n;
    }
    return TWS_OK;
}

static enum tws_status
writev_lock_held(struct tws_tls *tls, const struct iovec *parts, int count,
                 size_t *written, struct tws_error *err)
{
    struct cursor cursor = {.part = parts, .parts = count};
    size_t taken = 0;
    enum tws_status status;
    if (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) {
        return tws_error_os(err, EPIPE, "send");
    }
    tws_tls_begin_lock_held(tls, 0);
    status = tws_tls_flush_lock_held(tls, err);
    if (status != TWS_OK) {
        return status;
    }
    skip(&cursor, 0); /* parts in front that are empty */
    if (tls->owed && cursor.parts > 0) {
        tls->owed = false;
        skip(&cursor, 1);
        taken = 1;
    }
    enum tws_status encrypted = encrypt_lock_held(tls, &cursor, &taken, err);
    if (encrypted != TWS_OK && encrypted != TWS_AGAIN) {
        return encrypted;
    }
    status = tws_tls_flush_lock_held(tls, err);
    if (status != TWS_OK && status != TWS_AGAIN) {
        return status;
    }
    if (status == TWS_AGAIN && taken > 0) {
        /* The last byte is counted when all has left, so that the caller
         * comes back. */
        tls->owed = true;
        taken--;
    }
    if (taken == 0 && (status != TWS_OK || encrypted != TWS_OK)) {
        return TWS_AGAIN;
    }
    *written = taken;
    return TWS_OK;
}

static enum tws_status
tls_writev(struct tws_transport *transport, const struct iovec *parts,
           int count, size_t *written, struct tws_error *err)
{
    struct tws_tls *tls = transport->tls;
    pthread_mutex_lock(&tls->lock);
    enum tws_status status = check_lock_held(tls, err);
    if (status == TWS_OK) {
        status = writev_lock_held(tls, parts, count, written, err);
    }
    pthread_mutex_unlock(&tls->lock);
    return status;
}

static void
tls_end_writing(struct tws_transport *transport)
{
    struct tws_tls *tls = transport->tls;
    struct tws_error ignored;
    pthread_mutex_lock(&tls->lock);
    tws_tls_begin_lock_held(tls, 0);
    if (tls->secured && tls->error.status == TWS_OK
        && (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) == 0) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl); /* close_notify (RFC 8446 §6.1) */
        ERR_clear_error();
    }
    tls->ending = true;
    enum tws_status status = tws_tls_flush_lock_held(tls, &ignored);
    if (status != TWS_OK && status != TWS_AGAIN) {
        tls->ending = false;
        tls->inner.ops->end_writing(&tls->inner);
    }
    pthread_mutex_unlock(&tls->lock);
}

/* ----------------------------------------------------------------- life */

static void
destroy(struct tws_tls *tls)
{
    if (tls->ssl != NULL) {
        /* A session may be resumed even if its connection was not closed in
         * order (RFC 5246 §7.2.1); without this OpenSSL would forbid it. */
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls->ssl);
        ERR_clear_error();
    }
    tws_tls_context_release(tls->context);
    tws_buffer_release(&tls->out);
    free(tls->host);
    free(tls->session_key);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

static void
tls_release(struct tws_transport *transport)
{
    struct tws_transport inner = transport->tls->inner;
    destroy(transport->tls);
    tws_transport_release(&inner);
}

static const struct tws_transport_ops tls_ops = {
    .secure = tls_secure,
    .read = tls_read,
    .writev = tls_writev,
    .end_writing = tls_end_writing,
    .pending = tls_pending,
    .release = tls_release,
};

/* A session is for a host and a peer: who verified another name has not
 * verified this one. */
static enum tws_status
name_session(struct tws_tls *tls, const char *host, const char *peer,
             struct tws_error *err)
{
    size_t size = strlen(host) + 1 + strlen(peer) + 1;
    tls->session_key = malloc(size);
    if (tls->session_key == NULL) {
        return tws_error_nomem(err);
    }
    (void)snprintf(tls->session_key, size, "%s %s", host, peer);
    return TWS_OK;
}

static void
resume_session(struct tws_tls *tls)
{
    SSL_SESSION *session =
        tws_tls_session_cache_take(&tls->context->sessions, tls->session_key);
    if (session != NULL) {
        /* One that does not fit is no reason not to connect. */
        (void)SSL_set_session(tls->ssl, session);
        SSL_SESSION_free(session);
    }
}

/* Everything but the inner transport. */
static enum tws_status
prepare(struct tws_tls *tls, const char *host, const char *peer,
        struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    BIO *bio;
    tls->ssl = SSL_new(tls->context->sites[0].ssl_context);
    bio = BIO_new(tls->context->bio_method);
    if (tls->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        return tws_error_nomem(err);
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* owns it */
    SSL_set_msg_callback(tls->ssl, note_record);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    if (SSL_set_app_data(tls->ssl, tls) != 1) {
        return tws_error_nomem(err);
    }
    if (tls->context->role == TWS_SERVER) {
        SSL_set_accept_state(tls->ssl);
        return TWS_OK;
    }
    SSL_set_connect_state(tls->ssl);
    status = tws_tls_expect_host_lock_held(tls, host, err);
    if (status == TWS_OK && peer != NULL) {
        status = name_session(tls, host == NULL ? "" : host, peer, err);
    }
    if (status == TWS_OK && peer != NULL) {
        resume_session(tls);
    }
    return status;
}

enum tws_status
tws_tls_start(struct tws_transport *transport, struct tws_tls_context *context,
              const char *host, const char *peer, struct tws_error *err)
{
    struct tws_tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL || pthread_mutex_init(&tls->lock, NULL) != 0) {
        free(tls);
        return tws_error_nomem(err);
    }
    tls->context = tws_tls_context_retain(context);
    ERR_clear_error();
    enum tws_status status = prepare(tls, host, peer, err);
    ERR_clear_error();
    if (status != TWS_OK) {
        destroy(tls);
        return status;
    }
    tls->inner = *transport;
    *transport = (struct tws_transport){
        .ops = &tls_ops, .fd = tls->inner.fd, .tls = tls};
    return TWS_OK;
}

void
tws_tls_strip(struct tws_transport *transport)
{
    struct tws_tls *tls = transport->tls;
    *transport = tls->inner;
    destroy(tls);
}
