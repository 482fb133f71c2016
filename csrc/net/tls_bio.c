#include "net/tls_parts.h"

void
tws_tls_begin_lock_held(struct tws_tls *tls, size_t room)
{
    tls->dry = false;
    tls->blocked = false;
    tls->budget =
        room > SIZE_MAX - TWS_TLS_SURPLUS ? SIZE_MAX : room + TWS_TLS_SURPLUS;
}

/* The first bytes tell a peer that does not speak TLS at all. */
static void
remember_head(struct tws_tls *tls, const char *data, size_t length)
{
    size_t room = sizeof(tls->head) - tls->head_length;
    size_t more = length < room ? length : room;
    if (more > 0) {
        memcpy(tls->head + tls->head_length, data, more);
        tls->head_length = (uint8_t)(tls->head_length + more);
    }
}

static int
retry_read(BIO *bio)
{
    BIO_set_retry_read(bio);
    return -1;
}

static int
bio_read(BIO *bio, char *data, int size)
{
    struct tws_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size <= 0 || tls->error.status != TWS_OK) {
        return -1;
    }
    /* A read that came back short has emptied the socket: one more would
     * only say so. */
    if (tls->dry || tls->budget == 0) {
        return retry_read(bio);
    }
    size_t got = 0;
    struct tws_error err;
    switch (tws_read(&tls->inner, (uint8_t *)data, (size_t)size, &got, &err)) {
    case TWS_OK:
        tls->dry = got < (size_t)size && !tws_pending(&tls->inner);
        tls->budget -= got < tls->budget ? got : tls->budget;
        remember_head(tls, data, got);
        return (int)got;
    case TWS_AGAIN:
        tls->dry = true;
        return retry_read(bio);
    case TWS_EOF:
        tls->eof = true;
        return 0;
    default:
        tls->error = err;
        return -1;
    }
}

/* Everything is taken at once, so that OpenSSL never has to repeat a write:
 * what does not leave waits in `out`. */
static int
bio_write(BIO *bio, const char *data, int length)
{
    struct tws_tls *tls = BIO_get_data(bio);
    struct tws_error err;
    BIO_clear_retry_flags(bio);
    if (length <= 0) {
        return -1;
    }
    if (tws_buffer_length(&tls->out) >= TWS_TLS_OUT_LIMIT) {
        (void)tws_error_tls(&tls->error, "the peer makes us answer, but does "
                                         "not read the answers");
        return -1;
    }
    if (tws_buffer_append(&tls->out, data, (size_t)length) != TWS_OK) {
        (void)tws_error_nomem(&tls->error);
        return -1;
    }
    if (tws_buffer_length(&tls->out) >= TWS_TLS_FLUSH_AT) {
        /* A failure shows again at the end of the operation. */
        (void)tws_tls_flush_lock_held(tls, &err);
    }
    return length;
}

static long
bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    /* BIO_CTRL_EOF stays 0 so that OpenSSL makes no error of an end without
     * close_notify: bio_read() has noted it. */
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *
tws_tls_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "twspy");
    if (method != NULL
        && (BIO_meth_set_read(method, bio_read) != 1
            || BIO_meth_set_write(method, bio_write) != 1
            || BIO_meth_set_ctrl(method, bio_control) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
    return method;
}

enum tws_status
tws_tls_flush_lock_held(struct tws_tls *tls, struct tws_error *err)
{
    size_t length = tws_buffer_length(&tls->out);
    if (tls->blocked) {
        return TWS_AGAIN;
    }
    if (length > 0) {
        size_t written = 0;
        enum tws_status status = tws_write(
            &tls->inner, tws_buffer_data(&tls->out), length, &written, err);
        if (status == TWS_OK) {
            tws_buffer_consume(&tls->out, written);
        }
        tls->blocked =
            status == TWS_AGAIN || (status == TWS_OK && written < length);
        if (tls->blocked) {
            return TWS_AGAIN;
        }
        if (status != TWS_OK) {
            return status;
        }
    }
    /* An idle connection holds no memory for it. */
    tws_buffer_release(&tls->out);
    if (tls->ending) {
        tls->ending = false;
        tls->inner.ops->end_writing(&tls->inner);
    }
    return TWS_OK;
}
