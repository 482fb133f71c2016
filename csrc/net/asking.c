#include "net/asking.h"

#include "net/random.h"

enum { READ_SIZE = 4096 };

enum tws_status
tws_asking_init(struct tws_asking *asking,
                const struct tws_handshake_offer *offer,
                const struct tws_http_limits *limits, struct tws_error *err)
{
    uint8_t nonce[16];
    *asking = (struct tws_asking){.offer = *offer, .limits = *limits};
    /* RFC 6455 §4.1 item 7: a nonce chosen at random for each connection. */
    enum tws_status status = tws_random_bytes(nonce, sizeof(nonce), err);
    if (status == TWS_OK) {
        tws_handshake_key(nonce, asking->offer.key);
        status =
            tws_handshake_write_request(&asking->request, &asking->offer, err);
    }
    asking->offer.host = TWS_SPAN(""); /* not needed any more */
    return status;
}

void
tws_asking_release(struct tws_asking *asking)
{
    tws_buffer_release(&asking->request);
    tws_buffer_release(&asking->in);
    tws_buffer_release(&asking->content);
}

enum tws_status
tws_asking_add(struct tws_asking *asking, struct tws_span initial,
               struct tws_error *err)
{
    if (tws_buffer_append(&asking->in, initial.data, initial.length)
        != TWS_OK) {
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

static enum tws_status
write_request(struct tws_asking *asking, struct tws_transport *transport,
              struct tws_error *err)
{
    const uint8_t *request = tws_buffer_data(&asking->request);
    size_t length = tws_buffer_length(&asking->request);
    while (asking->written < length) {
        size_t written;
        enum tws_status status =
            tws_write(transport, request + asking->written,
                      length - asking->written, &written, err);
        if (status != TWS_OK) {
            return status;
        }
        asking->written += written;
    }
    return TWS_OK;
}

/* --- the answer --- */

static enum tws_status
read_more(struct tws_asking *asking, struct tws_transport *transport,
          struct tws_error *err)
{
    uint8_t *room;
    size_t got;
    if (tws_buffer_reserve(&asking->in, READ_SIZE, &room) != TWS_OK) {
        return tws_error_nomem(err);
    }
    enum tws_status status = tws_read(transport, room, READ_SIZE, &got, err);
    if (status == TWS_OK) {
        tws_buffer_commit(&asking->in, got);
    }
    return status;
}

static const char *
answer_bytes(const struct tws_asking *asking)
{
    return (const char *)tws_buffer_data(&asking->in);
}

/* A refusal's head has come; behind it the body begins. TWS_AGAIN: more of it
 * may come. */
static enum tws_status
begin_body(struct tws_asking *asking, const struct tws_http_head *head,
           struct tws_error *err)
{
    struct tws_span begun = tws_asking_rest(asking);
    tws_http_body_begin(&asking->body, head);
    return tws_http_body_take(&asking->body, (const uint8_t *)begun.data,
                              begun.length, TWS_ASKING_BODY_MAX,
                              &asking->content, err);
}

/* TWS_AGAIN, or anything else: it has ended. */
static enum tws_status
read_body(struct tws_asking *asking, struct tws_transport *transport,
          struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN) {
        uint8_t data[READ_SIZE];
        size_t got;
        status = tws_read(transport, data, sizeof(data), &got, err);
        if (status != TWS_OK) {
            return status;
        }
        status =
            tws_http_body_take(&asking->body, data, got, TWS_ASKING_BODY_MAX,
                               &asking->content, err);
    }
    return status;
}

/* A head is there: good, bad, or one of the interim ones that come before
 * the answer (RFC 9110 §15.2). TWS_AGAIN for the last, and for a refusal
 * whose body is not complete. */
static enum tws_status
judge_answer(struct tws_asking *asking, struct tws_error *err)
{
    struct tws_http_head head;
    enum tws_status status = tws_asking_answer(asking, &head, err);
    if (status != TWS_OK) {
        return status;
    }
    if (head.status / 100 == 1 && head.status != 101) {
        asking->interim++;
        if (asking->interim > TWS_ASKING_INTERIM_MAX) {
            return tws_error_refused(err, 0,
                                     "more than %d interim answers (1xx), "
                                     "expected 101 Switching Protocols",
                                     (int)TWS_ASKING_INTERIM_MAX);
        }
        tws_buffer_consume(&asking->in, asking->head_length);
        asking->head_length = 0;
        asking->scanner = (struct tws_http_scanner){.scanned = 0};
        return TWS_AGAIN;
    }
    status = tws_handshake_check_answer(
        &head, &asking->offer, &asking->protocol, &asking->extensions, err);
    if (status == TWS_REFUSED) {
        struct tws_error ignored; /* the answer counts, not its body */
        asking->refusal = *err;
        asking->state = TWS_ASKING_REFUSING;
        if (begin_body(asking, &head, &ignored) == TWS_AGAIN) {
            return TWS_AGAIN;
        }
    }
    return status;
}

static enum tws_status
read_answer(struct tws_asking *asking, struct tws_transport *transport,
            struct tws_error *err)
{
    for (;;) {
        size_t length = tws_buffer_length(&asking->in);
        enum tws_status status = TWS_AGAIN;
        if (length > 0) {
            status =
                tws_http_scan(&asking->scanner, answer_bytes(asking), length,
                              &asking->limits, &asking->head_length, err);
        }
        if (status == TWS_OK) {
            status = judge_answer(asking, err);
            if (status != TWS_AGAIN || asking->state == TWS_ASKING_REFUSING) {
                return status;
            }
            continue;
        }
        if (status == TWS_AGAIN) {
            status = read_more(asking, transport, err);
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

/* --- the whole --- */

enum tws_status
tws_asking_advance(struct tws_asking *asking, struct tws_transport *transport,
                   unsigned *events, struct tws_error *err)
{
    struct tws_error ignored;
    enum tws_status status;
    if (asking->state == TWS_ASKING_WRITING) {
        *events = TWS_WAIT_WRITE;
        status = write_request(asking, transport, err);
        if (status != TWS_OK) {
            return status;
        }
        asking->state = TWS_ASKING_READING;
    }
    *events = TWS_WAIT_READ;
    if (asking->state == TWS_ASKING_READING) {
        status = read_answer(asking, transport, err);
        if (status != TWS_AGAIN || asking->state == TWS_ASKING_READING) {
            return status;
        }
    }
    /* Its connection may end as it likes. */
    if (read_body(asking, transport, &ignored) == TWS_AGAIN) {
        return TWS_AGAIN;
    }
    *err = asking->refusal;
    return TWS_REFUSED;
}

bool
tws_asking_refusal(const struct tws_asking *asking, struct tws_error *err)
{
    if (asking->state != TWS_ASKING_REFUSING) {
        return false;
    }
    *err = asking->refusal;
    return true;
}

enum tws_status
tws_asking_request(const struct tws_asking *asking, struct tws_http_head *head,
                   struct tws_error *err)
{
    /* Our own head may be longer than what is taken from others. */
    struct tws_http_limits limits = {.head_bytes = SIZE_MAX,
                                     .field_count = TWS_HTTP_FIELDS_MAX};
    return tws_http_parse_request(
        (const char *)tws_buffer_data(&asking->request),
        tws_buffer_length(&asking->request), &limits, head, err);
}

enum tws_status
tws_asking_answer(const struct tws_asking *asking, struct tws_http_head *head,
                  struct tws_error *err)
{
    return tws_http_parse_response(answer_bytes(asking), asking->head_length,
                                   &asking->limits, head, err);
}

struct tws_span
tws_asking_body(const struct tws_asking *asking)
{
    const struct tws_buffer *content = &asking->content;
    return tws_buffer_length(content) == 0
               ? TWS_SPAN("")
               : (struct tws_span){
                   .data = (const char *)tws_buffer_data(content),
                   .length = tws_buffer_length(content),
               };
}

struct tws_span
tws_asking_rest(const struct tws_asking *asking)
{
    return (struct tws_span){
        .data = answer_bytes(asking) + asking->head_length,
        .length = tws_buffer_length(&asking->in) - asking->head_length,
    };
}
