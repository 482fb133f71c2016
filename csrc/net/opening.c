#include "net/opening.h"

#include "net/tls.h"

/* Enough for what a client may have in flight when it is refused; more is
 * not worth our time, and the deadline bounds the rest. */
enum { LINGER_MAX = 256 * 1024 };

enum tws_status
tws_opening_init(struct tws_opening *opening,
                 const struct tws_transport *transport,
                 struct tws_span initial, struct tws_error *err)
{
    *opening = (struct tws_opening){
        .transport = *transport,
        .state = transport->tls == NULL ? TWS_OPENING_READING
                                        : TWS_OPENING_SECURING,
    };
    if (tws_buffer_append(&opening->in, initial.data, initial.length)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

void
tws_opening_release(struct tws_opening *opening)
{
    tws_buffer_release(&opening->in);
    tws_buffer_release(&opening->out);
}

/* Looks for a whole head in `data` and parses it. */
static enum tws_status
find_head(struct tws_opening *opening, const struct tws_http_limits *limits,
          uint8_t *data, size_t length, struct tws_http_head *head,
          struct tws_error *err)
{
    size_t head_length;
    enum tws_status status =
        tws_http_scan(&opening->scanner, (const char *)data, length, limits,
                      &head_length, err);
    if (status != TWS_OK) {
        return status;
    }
    opening->rest.data = data + head_length;
    opening->rest.length = length - head_length;
    return tws_http_parse_request((const char *)data, head_length, limits,
                                  head, err);
}

/* A head that comes in one read is parsed where it was read to; only one
 * that comes in parts is put together in `in`. */
static enum tws_status
read_head(struct tws_opening *opening, const struct tws_http_limits *limits,
          uint8_t *scratch, size_t scratch_size, struct tws_http_head *head,
          struct tws_error *err)
{
    struct tws_buffer *in = &opening->in;
    enum tws_status status = TWS_AGAIN;
    if (opening->scanner.scanned == 0 && tws_buffer_length(in) > 0) {
        status = find_head(opening, limits, tws_buffer_data(in),
                           tws_buffer_length(in), head, err);
    }
    while (status == TWS_AGAIN) {
        size_t got;
        status =
            tws_read(&opening->transport, scratch, scratch_size, &got, err);
        if (status != TWS_OK) {
            return status;
        }
        bool in_parts = tws_buffer_length(in) > 0;
        if (!in_parts) {
            status = find_head(opening, limits, scratch, got, head, err);
        }
        if ((in_parts || status == TWS_AGAIN)
            && tws_buffer_append(in, scratch, got) != TWS_OK) {
            return tws_error_nomem(err);
        }
        if (in_parts) {
            status = find_head(opening, limits, tws_buffer_data(in),
                               tws_buffer_length(in), head, err);
        }
    }
    return status;
}

/* TWS_OK: all is written. */
static enum tws_status
write_answer(struct tws_opening *opening, struct tws_error *err)
{
    struct tws_buffer *out = &opening->out;
    while (tws_buffer_length(out) > 0) {
        size_t written;
        enum tws_status status =
            tws_write(&opening->transport, tws_buffer_data(out),
                      tws_buffer_length(out), &written, err);
        if (status != TWS_OK) {
            return status;
        }
        tws_buffer_consume(out, written);
    }
    tws_buffer_release(out);
    return TWS_OK;
}

/* Closing a socket with unread bytes resets the connection, and the reset
 * may overtake our answer: so read until the peer ends (RFC 9112 §9.6). */
static enum tws_status
linger(struct tws_opening *opening, uint8_t *scratch, size_t scratch_size,
       struct tws_error *err)
{
    while (opening->lingered < LINGER_MAX) {
        size_t got;
        enum tws_status status =
            tws_read(&opening->transport, scratch, scratch_size, &got, err);
        if (status != TWS_OK) {
            return status;
        }
        opening->lingered += got;
    }
    return TWS_EOF;
}

static enum tws_opening_step
broken_off(struct tws_error *err, enum tws_status status, const char *before)
{
    if (status == TWS_EOF) {
        (void)tws_error_refused(err, 0,
                                "peer closed the connection before its %s "
                                "was complete",
                                before);
    }
    return TWS_STEP_GONE;
}

/* Tells the peer what was wrong with what it sent. */
static enum tws_opening_step
refuse(struct tws_opening *opening, const struct tws_error *why)
{
    struct tws_error ignored;
    if (tws_opening_refuse(opening, why->http_status, why->reason, false,
                           &ignored)
        != TWS_OK) {
        return TWS_STEP_GONE;
    }
    return TWS_STEP_WRITE;
}

enum tws_opening_step
tws_opening_secure(struct tws_opening *opening, struct tws_error *err)
{
    unsigned events = TWS_WAIT_READ;
    enum tws_status status = tws_secure(&opening->transport, &events, err);
    switch (status) {
    case TWS_OK:
        opening->state = TWS_OPENING_READING;
        return TWS_STEP_READ;
    case TWS_AGAIN:
        return (events & TWS_WAIT_WRITE) != 0 ? TWS_STEP_WRITE : TWS_STEP_READ;
    case TWS_REFUSED:
        tws_tls_strip(&opening->transport);
        return refuse(opening, err);
    default:
        return broken_off(err, status, "TLS handshake");
    }
}

static enum tws_opening_step
advance_reading(struct tws_opening *opening,
                const struct tws_http_limits *limits, uint8_t *scratch,
                size_t scratch_size, struct tws_http_head *head,
                struct tws_error *err)
{
    enum tws_status status =
        read_head(opening, limits, scratch, scratch_size, head, err);
    switch (status) {
    case TWS_OK:
        opening->state = TWS_OPENING_DECIDING;
        return TWS_STEP_REQUEST;
    case TWS_AGAIN:
        return TWS_STEP_READ;
    case TWS_REFUSED:
        return refuse(opening, err);
    default:
        return broken_off(err, status, "request");
    }
}

enum tws_opening_step
tws_opening_advance(struct tws_opening *opening,
                    const struct tws_http_limits *limits, uint8_t *scratch,
                    size_t scratch_size, struct tws_http_head *head,
                    struct tws_error *err)
{
    enum tws_status status;
    if (opening->state == TWS_OPENING_SECURING) {
        enum tws_opening_step step = tws_opening_secure(opening, err);
        if (opening->state == TWS_OPENING_SECURING) {
            return step;
        }
    }
    if (opening->state == TWS_OPENING_READING) {
        enum tws_opening_step step =
            advance_reading(opening, limits, scratch, scratch_size, head, err);
        if (step != TWS_STEP_WRITE) {
            return step;
        }
    }
    if (opening->state == TWS_OPENING_DECIDING) {
        return TWS_STEP_REQUEST;
    }
    if (opening->state == TWS_OPENING_ANSWERING) {
        status = write_answer(opening, err);
        if (status == TWS_AGAIN) {
            return TWS_STEP_WRITE;
        }
        if (status != TWS_OK) {
            return TWS_STEP_GONE;
        }
        if (opening->accepted) {
            return TWS_STEP_CONNECTED;
        }
        opening->transport.ops->end_writing(&opening->transport);
        opening->state = TWS_OPENING_LINGERING;
    }
    struct tws_error ignored; /* the answer is out; what follows is decay */
    status = linger(opening, scratch, scratch_size, &ignored);
    return status == TWS_AGAIN ? TWS_STEP_READ : TWS_STEP_GONE;
}

/* The bytes behind the head must outlive the scratch they were read to where
 * the answer can't be written at once. Copied only where there are any. */
enum tws_status
tws_opening_keep_rest(struct tws_opening *opening, struct tws_error *err)
{
    if (opening->rest.length == 0 || tws_buffer_length(&opening->in) > 0) {
        return TWS_OK;
    }
    if (tws_buffer_append(&opening->in, opening->rest.data,
                          opening->rest.length)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    opening->rest.data = tws_buffer_data(&opening->in);
    return TWS_OK;
}

enum tws_status
tws_opening_accept(struct tws_opening *opening,
                   const struct tws_handshake_request *request,
                   struct tws_span extensions,
                   const struct tws_http_field *fields, size_t field_count,
                   struct tws_error *err)
{
    enum tws_status status =
        tws_handshake_write_accept(&opening->out, request, extensions, err);
    for (size_t i = 0; status == TWS_OK && i < field_count; i++) {
        status = tws_http_write_field(&opening->out, fields[i].name,
                                      fields[i].value, err);
    }
    if (status == TWS_OK) {
        status = tws_http_write_end(&opening->out, err);
    }
    if (status == TWS_OK) {
        status = tws_opening_keep_rest(opening, err);
    }
    if (status != TWS_OK) {
        tws_buffer_release(&opening->out); /* it may be refused now */
        return status;
    }
    opening->state = TWS_OPENING_ANSWERING;
    opening->accepted = true;
    return TWS_OK;
}

enum tws_status
tws_opening_answer(struct tws_opening *opening, struct tws_span answer,
                   struct tws_error *err)
{
    if (tws_buffer_append(&opening->out, answer.data, answer.length)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    tws_buffer_release(&opening->in);
    opening->state = TWS_OPENING_ANSWERING;
    return TWS_OK;
}

enum tws_status
tws_opening_refuse(struct tws_opening *opening, uint16_t http_status,
                   const char *reason, bool head_only, struct tws_error *err)
{
    enum tws_status status = tws_handshake_write_refusal(
        &opening->out, http_status, reason, head_only, err);
    if (status != TWS_OK) {
        return status;
    }
    tws_buffer_release(&opening->in);
    opening->state = TWS_OPENING_ANSWERING;
    return TWS_OK;
}
