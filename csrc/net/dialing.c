#include "net/dialing.h"

#include "net/random.h"
#include "protocol/http_fields.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { READ_SIZE = 4096 };

/* Until the next attempt where a Unix socket's queue is full. */
#define RETRY ((uint64_t)10 * 1000 * 1000)

struct tws_dialing {
    struct tws_transport transport;
    struct tws_handshake_offer offer;
    struct tws_http_limits limits;
    uint8_t state;               /* enum tws_dialing_state */
    struct tws_resolve *resolve; /* owned, or NULL */
    struct tws_address address;
    bool trying;          /* it is `address` that is tried now */
    bool begun;           /* connect() was called with it */
    bool queue_full;      /* ... is to be called again at attempt_end */
    uint64_t attempt_end; /* of this address; UINT64_MAX: the whole time */
    int gai_error;
    struct tws_buffer request; /* never consumed */
    size_t written;            /* of it */
    struct tws_buffer in;      /* the answer, from its head on */
    struct tws_http_scanner scanner;
    size_t head_length; /* of the answer; 0: not known yet */
    size_t body_length; /* what Content-Length says, at most BODY_MAX */
    struct tws_span protocol;
    struct tws_error refusal; /* while the body is awaited */
};

size_t
tws_dialing_host_field(const char *host, uint16_t port,
                       char out[TWS_HOST_FIELD_MAX + 1])
{
    bool is_ipv6 = strchr(host, ':') != NULL;
    size_t length = is_ipv6 ? strcspn(host, "%") : strlen(host);
    if (length > TWS_HOST_MAX) {
        length = TWS_HOST_MAX; /* too long for any name */
    }
    char port_text[8] = "";
    if (port != 80) {
        (void)snprintf(port_text, sizeof(port_text), ":%u", (unsigned)port);
    }
    int made =
        snprintf(out, TWS_HOST_FIELD_MAX + 1, "%s%.*s%s%s", is_ipv6 ? "[" : "",
                 (int)length, host, is_ipv6 ? "]" : "", port_text);
    return made < 0 ? 0 : (size_t)made;
}

enum tws_status
tws_dialing_new(const struct tws_handshake_offer *offer,
                const struct tws_http_limits *limits,
                struct tws_dialing **dialing, struct tws_error *err)
{
    uint8_t nonce[16];
    struct tws_dialing *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    made->offer = *offer;
    made->limits = *limits;
    made->attempt_end = UINT64_MAX;
    /* RFC 6455 §4.1 item 7: a nonce chosen at random for each connection. */
    enum tws_status status = tws_random_bytes(nonce, sizeof(nonce), err);
    if (status == TWS_OK) {
        tws_handshake_key(nonce, made->offer.key);
        status =
            tws_handshake_write_request(&made->request, &made->offer, err);
        made->offer.host = TWS_SPAN(""); /* not needed any more */
    }
    if (status != TWS_OK) {
        tws_dialing_free(made);
        return status;
    }
    *dialing = made;
    return TWS_OK;
}

void
tws_dialing_free(struct tws_dialing *dialing)
{
    if (dialing == NULL) {
        return;
    }
    tws_resolve_free(dialing->resolve);
    tws_buffer_release(&dialing->request);
    tws_buffer_release(&dialing->in);
    free(dialing);
}

void
tws_dialing_by_name(struct tws_dialing *dialing,
                    const struct tws_transport *transport,
                    struct tws_resolve *resolve)
{
    dialing->transport = *transport;
    dialing->resolve = resolve;
    dialing->state = TWS_DIALING_RESOLVING;
}

void
tws_dialing_by_address(struct tws_dialing *dialing,
                       const struct tws_transport *transport,
                       const struct tws_address *address)
{
    dialing->transport = *transport;
    dialing->address = *address;
    dialing->trying = true;
    dialing->state = TWS_DIALING_CONNECTING;
}

enum tws_status
tws_dialing_connected(struct tws_dialing *dialing,
                      const struct tws_transport *transport,
                      struct tws_span initial, struct tws_error *err)
{
    dialing->transport = *transport;
    dialing->state = TWS_DIALING_ASKING;
    if (tws_buffer_append(&dialing->in, initial.data, initial.length)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

/* --- connecting --- */

/* Steps to the next address. TWS_OK with dialing->address, TWS_AGAIN,
 * TWS_EOF, or why the look-up failed. */
static enum tws_status
next_address(struct tws_dialing *dialing, uint64_t now, uint64_t deadline,
             struct tws_error *err)
{
    dialing->attempt_end = UINT64_MAX;
    if (dialing->resolve == NULL) {
        return TWS_EOF;
    }
    enum tws_status status = tws_resolve_next(
        dialing->resolve, &dialing->address, &dialing->gai_error, err);
    if (status != TWS_OK) {
        return status;
    }
    size_t left = tws_resolve_left(dialing->resolve);
    if (left > 0 && deadline != UINT64_MAX && deadline > now) {
        dialing->attempt_end = now + (deadline - now) / (left + 1);
    }
    return TWS_OK;
}

/* Calls connect(). A Unix socket whose listener has no room says EAGAIN
 * (connect(2)), and time is all that can be waited for then. */
static enum tws_status
begin_attempt(struct tws_dialing *dialing, uint64_t now, struct tws_error *err)
{
    enum tws_status status =
        tws_socket_connect(dialing->transport.fd, &dialing->address, err);
    dialing->queue_full = status == TWS_OS && err->sys_errno == EAGAIN;
    dialing->begun = !dialing->queue_full;
    if (dialing->queue_full) {
        dialing->attempt_end = now + RETRY;
        return TWS_AGAIN;
    }
    return status;
}

/* One attempt. TWS_OK: connected; TWS_AGAIN; TWS_OS. */
static enum tws_status
attempt(struct tws_dialing *dialing, uint64_t now, struct tws_error *err)
{
    int fd = dialing->transport.fd;
    unsigned ready = 0;
    if (!dialing->begun) {
        enum tws_status status = begin_attempt(dialing, now, err);
        if (status != TWS_AGAIN || !dialing->begun) {
            return status;
        }
    }
    enum tws_status status =
        tws_socket_wait(fd, TWS_WAIT_WRITE, 0, &ready, err);
    if (status == TWS_OK) {
        return tws_socket_connected(fd, err);
    }
    if (status == TWS_AGAIN && now >= dialing->attempt_end) {
        return tws_error_os(err, ETIMEDOUT, "connect");
    }
    return status;
}

/* Makes the descriptor fit for another address (connect(2): AF_UNSPEC
 * dissolves what was begun). */
static void
disconnect(const struct tws_dialing *dialing)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    (void)connect(dialing->transport.fd, &none, sizeof(none));
}

/* TWS_OK: connected to one of the addresses. The error of the last one
 * counts where none answers. */
static enum tws_status
connect_to_any(struct tws_dialing *dialing, uint64_t now, uint64_t deadline,
               struct tws_error *err)
{
    struct tws_error last;
    (void)tws_error_os(&last, EADDRNOTAVAIL, "connect");
    for (;;) {
        if (!dialing->trying) {
            enum tws_status status = next_address(dialing, now, deadline, err);
            if (status == TWS_EOF) {
                *err = last;
                return last.status;
            }
            if (status != TWS_OK) {
                return status;
            }
            dialing->trying = true;
            dialing->state = TWS_DIALING_CONNECTING;
        }
        enum tws_status status = attempt(dialing, now, &last);
        if (status == TWS_OK || status == TWS_AGAIN) {
            return status;
        }
        disconnect(dialing);
        dialing->trying = false;
        dialing->begun = false;
    }
}

/* --- asking --- */

static enum tws_status
write_request(struct tws_dialing *dialing, struct tws_error *err)
{
    const uint8_t *request = tws_buffer_data(&dialing->request);
    size_t length = tws_buffer_length(&dialing->request);
    while (dialing->written < length) {
        size_t written;
        enum tws_status status =
            tws_write(&dialing->transport, request + dialing->written,
                      length - dialing->written, &written, err);
        if (status != TWS_OK) {
            return status;
        }
        dialing->written += written;
    }
    return TWS_OK;
}

static enum tws_status
read_more(struct tws_dialing *dialing, struct tws_error *err)
{
    uint8_t *room;
    size_t got;
    if (tws_buffer_reserve(&dialing->in, READ_SIZE, &room) != TWS_OK) {
        return tws_error_nomem(err);
    }
    enum tws_status status =
        tws_read(&dialing->transport, room, READ_SIZE, &got, err);
    if (status == TWS_OK) {
        tws_buffer_commit(&dialing->in, got);
    }
    return status;
}

static const char *
answer_bytes(const struct tws_dialing *dialing)
{
    return (const char *)tws_buffer_data(&dialing->in);
}

/* How much of a refusal's body to wait for: what Content-Length says, else
 * what comes until the server ends (RFC 9112 §6.3). */
static size_t
expected_body(const struct tws_http_head *head)
{
    size_t count;
    const struct tws_http_field *field =
        tws_http_find(head, TWS_SPAN("Content-Length"), &count);
    if (head->status == 204 || head->status == 304 || head->status == 101) {
        return 0;
    }
    if (count != 1 || field->value.length == 0) {
        return TWS_DIALING_BODY_MAX;
    }
    size_t length = 0;
    for (size_t i = 0; i < field->value.length; i++) {
        char c = field->value.data[i];
        if (c < '0' || c > '9') {
            return TWS_DIALING_BODY_MAX;
        }
        length = length * 10 + (size_t)(c - '0');
        if (length > TWS_DIALING_BODY_MAX) {
            return TWS_DIALING_BODY_MAX;
        }
    }
    return length;
}

/* A head is there: good, bad, or one of the interim ones that come before
 * the answer (RFC 9110 §15.2). TWS_AGAIN for the last. */
static enum tws_status
judge_answer(struct tws_dialing *dialing, struct tws_error *err)
{
    struct tws_http_head head;
    struct tws_span extensions;
    enum tws_status status = tws_dialing_answer(dialing, &head, err);
    if (status != TWS_OK) {
        return status;
    }
    if (head.status < 200 && head.status != 101) {
        tws_buffer_consume(&dialing->in, dialing->head_length);
        dialing->head_length = 0;
        dialing->scanner = (struct tws_http_scanner){0};
        return TWS_AGAIN;
    }
    status = tws_handshake_check_answer(&head, &dialing->offer,
                                        &dialing->protocol, &extensions, err);
    if (status == TWS_REFUSED) {
        dialing->body_length = expected_body(&head);
        dialing->refusal = *err;
        dialing->state = TWS_DIALING_REFUSING;
    }
    return status;
}

static enum tws_status
read_answer(struct tws_dialing *dialing, struct tws_error *err)
{
    for (;;) {
        size_t length = tws_buffer_length(&dialing->in);
        enum tws_status status = TWS_AGAIN;
        if (length > 0) {
            status =
                tws_http_scan(&dialing->scanner, answer_bytes(dialing), length,
                              &dialing->limits, &dialing->head_length, err);
        }
        if (status == TWS_OK) {
            status = judge_answer(dialing, err);
            if (status == TWS_AGAIN) {
                continue;
            }
            return status;
        }
        if (status == TWS_AGAIN) {
            status = read_more(dialing, err);
        }
        if (status == TWS_EOF) {
            return tws_error_refused(
                err, 0,
                "the server closed the connection before its answer was "
                "complete, expected 101 Switching Protocols");
        }
        if (status != TWS_OK) {
            return status;
        }
    }
}

static enum tws_status
read_body(struct tws_dialing *dialing, struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    while (status == TWS_OK
           && tws_buffer_length(&dialing->in) - dialing->head_length
                  < dialing->body_length) {
        status = read_more(dialing, err);
    }
    return status;
}

/* --- the whole --- */

static enum tws_status
advance(struct tws_dialing *dialing, uint64_t now, uint64_t deadline,
        struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    switch ((enum tws_dialing_state)dialing->state) {
    case TWS_DIALING_RESOLVING:
    case TWS_DIALING_CONNECTING:
        status = connect_to_any(dialing, now, deadline, err);
        if (status != TWS_OK) {
            return status;
        }
        dialing->state = TWS_DIALING_ASKING;
        dialing->attempt_end = UINT64_MAX;
        /* fall through */
    case TWS_DIALING_ASKING:
        status = write_request(dialing, err);
        if (status != TWS_OK) {
            return status;
        }
        dialing->state = TWS_DIALING_ANSWERING;
        /* fall through */
    case TWS_DIALING_ANSWERING:
        return read_answer(dialing, err);
    case TWS_DIALING_REFUSING:
        break;
    }
    return TWS_REFUSED;
}

enum tws_dialing_step
tws_dialing_advance(struct tws_dialing *dialing, uint64_t now,
                    uint64_t deadline, struct tws_error *err)
{
    enum tws_status status = TWS_REFUSED;
    if (dialing->state != TWS_DIALING_REFUSING) {
        status = advance(dialing, now, deadline, err);
    }
    if (status == TWS_OK) {
        return TWS_DIALING_CONNECTED;
    }
    if (status == TWS_AGAIN) {
        return TWS_DIALING_WAIT;
    }
    if (dialing->state != TWS_DIALING_REFUSING) {
        return TWS_DIALING_FAILED;
    }
    /* The answer counts, however its body ends. */
    struct tws_error ignored;
    if (read_body(dialing, &ignored) == TWS_AGAIN) {
        return TWS_DIALING_WAIT;
    }
    tws_dialing_refusal(dialing, err);
    return TWS_DIALING_REFUSED;
}

void
tws_dialing_wait(const struct tws_dialing *dialing, int *fd, unsigned *events,
                 uint64_t *until)
{
    *fd = dialing->transport.fd;
    *events = TWS_WAIT_READ;
    *until = dialing->attempt_end;
    if (dialing->state == TWS_DIALING_RESOLVING) {
        *fd = tws_resolve_fd(dialing->resolve);
    }
    else if (dialing->queue_full) {
        *fd = -1;
        *events = 0;
    }
    else if (dialing->state == TWS_DIALING_CONNECTING
             || dialing->state == TWS_DIALING_ASKING) {
        *events = TWS_WAIT_WRITE;
    }
}

enum tws_dialing_state
tws_dialing_state(const struct tws_dialing *dialing)
{
    return (enum tws_dialing_state)dialing->state;
}

int
tws_dialing_gai_error(const struct tws_dialing *dialing)
{
    return dialing->gai_error;
}

void
tws_dialing_refusal(const struct tws_dialing *dialing, struct tws_error *err)
{
    *err = dialing->refusal;
}

enum tws_status
tws_dialing_request(const struct tws_dialing *dialing,
                    struct tws_http_head *head, struct tws_error *err)
{
    /* Our own head may be longer than what is taken from others. */
    struct tws_http_limits limits = {.head_bytes = SIZE_MAX,
                                     .field_count = TWS_HTTP_FIELDS_MAX};
    return tws_http_parse_request(
        (const char *)tws_buffer_data(&dialing->request),
        tws_buffer_length(&dialing->request), &limits, head, err);
}

enum tws_status
tws_dialing_answer(const struct tws_dialing *dialing,
                   struct tws_http_head *head, struct tws_error *err)
{
    return tws_http_parse_response(answer_bytes(dialing), dialing->head_length,
                                   &dialing->limits, head, err);
}

struct tws_span
tws_dialing_protocol(const struct tws_dialing *dialing)
{
    return dialing->protocol;
}

struct tws_span
tws_dialing_rest(const struct tws_dialing *dialing)
{
    return (struct tws_span){
        .data = answer_bytes(dialing) + dialing->head_length,
        .length = tws_buffer_length(&dialing->in) - dialing->head_length,
    };
}

struct tws_span
tws_dialing_body(const struct tws_dialing *dialing)
{
    struct tws_span body = tws_dialing_rest(dialing);
    if (body.length > dialing->body_length) {
        body.length = dialing->body_length;
    }
    return body;
}

void
tws_dialing_interrupt(struct tws_dialing *dialing)
{
    if (dialing->resolve != NULL) {
        tws_resolve_interrupt(dialing->resolve);
    }
}
