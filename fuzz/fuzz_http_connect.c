/* What an HTTP proxy answers to CONNECT, with the body of a refusal, and what
 * it is asked. The first byte chooses: an offer is made of the bytes, and
 * what is written is read back; or the bytes are a proxy's and come whole
 * and in parts, which must come to the same. */
#include "input.h"
#include "protocol/http_body.h"
#include "protocol/http_connect.h"

#include <openssl/evp.h>

/* Bits of the first byte. */
enum {
    OFFER = 0x01,
    LOGIN = 0x02, /* of an offer */
    SMALL = 0x04, /* limits */
    STEP = 0xf8,
};

enum { CEILING = 64 };

/* --- what is asked --- */

static struct tws_span
only_value(const struct tws_http_head *head, struct tws_span name)
{
    size_t count;
    const struct tws_http_field *field = tws_http_find(head, name, &count);
    require(count == 1);
    return field->value;
}

/* The credentials come out of the field as they went in. */
static void
check_credentials(const struct tws_http_head *head,
                  const struct tws_http_connect_offer *offer)
{
    struct tws_span value = only_value(head, TWS_SPAN("Proxy-Authorization"));
    size_t expected = offer->username.length + 1 + offer->password.length;
    require(value.length > 6 && memcmp(value.data, "Basic ", 6) == 0);
    require(value.length - 6 == (expected + 2) / 3 * 4);
    uint8_t *plain = malloc(value.length);
    require(plain != NULL);
    int length = EVP_DecodeBlock(plain, (const unsigned char *)value.data + 6,
                                 (int)(value.length - 6));
    require(length >= 0 && (size_t)length >= expected);
    require(memcmp(plain, offer->username.data, offer->username.length) == 0);
    require(plain[offer->username.length] == ':');
    require(offer->password.length == 0
            || memcmp(plain + offer->username.length + 1, offer->password.data,
                      offer->password.length)
                   == 0);
    /* What goes before the colon is the name. */
    require(memchr(offer->username.data, ':', offer->username.length) == NULL);
    free(plain);
}

static void
fuzz_offer(uint8_t choice, struct input input)
{
    struct tws_http_limits limits = {.head_bytes = SIZE_MAX, .field_count = 8};
    struct tws_http_connect_offer offer = {
        .port = (uint16_t)(input.length * 7),
        .credentials = (choice & LOGIN) != 0,
    };
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_http_head head;
    struct tws_error err;
    offer.username = input_part(&input, 0xff);
    offer.password = input_part(&input, 0xff);
    offer.user_agent = input_part(&input, 0xff);
    offer.host = input_rest(&input);
    if (tws_http_connect_write(&out, &offer, &err) != TWS_OK) {
        require(err.status == TWS_REFUSED && err.http_status == 0);
        require(tws_buffer_length(&out) == 0);
        tws_buffer_release(&out);
        return;
    }
    require(tws_http_parse_request((const char *)tws_buffer_data(&out),
                                   tws_buffer_length(&out), &limits, &head,
                                   &err)
            == TWS_OK);
    size_t fields = 1;
    fields += offer.credentials ? 1 : 0;
    fields += offer.user_agent.length > 0 ? 1 : 0;
    require(head.field_count == fields);
    require(tws_span_equal(head.method, TWS_SPAN("CONNECT")));
    require(tws_span_equal(head.target, only_value(&head, TWS_SPAN("Host"))));
    bool is_ipv6 = memchr(offer.host.data, ':', offer.host.length) != NULL;
    size_t start = is_ipv6 ? 1 : 0;
    require(
        memcmp(head.target.data + start, offer.host.data, offer.host.length)
        == 0);
    require(head.target.data[start + offer.host.length]
            == (is_ipv6 ? ']' : ':'));
    if (offer.user_agent.length > 0) {
        require(tws_span_equal(only_value(&head, TWS_SPAN("User-Agent")),
                               tws_http_trim(offer.user_agent)));
    }
    if (offer.credentials) {
        check_credentials(&head, &offer);
    }
    tws_buffer_release(&out);
}

/* --- what is answered --- */

struct outcome {
    enum tws_status status;
    uint16_t http_status;
    size_t read;            /* bytes that were handed over */
    enum tws_status body;   /* how the body of a refusal ended */
    struct tws_buffer kept; /* that body */
};

static void
take_body(struct outcome *outcome, const struct tws_http_head *head,
          struct tws_span text, size_t step)
{
    struct tws_http_body body;
    struct tws_error err;
    size_t done = 0;
    tws_http_body_begin(&body, head);
    outcome->body = TWS_AGAIN;
    do {
        size_t part = text.length - done < step ? text.length - done : step;
        uint8_t *copy = exact_begin(text.data + done, part);
        outcome->body = tws_http_body_take(&body, copy, part, CEILING,
                                           &outcome->kept, &err);
        exact_end(copy);
        done += part;
    } while (outcome->body == TWS_AGAIN && done < text.length);
    require(outcome->body == TWS_OK || outcome->body == TWS_AGAIN);
    require(tws_buffer_length(&outcome->kept) <= CEILING);
    require(tws_buffer_length(&outcome->kept) <= text.length);
}

static struct outcome
converse(struct tws_span text, const struct tws_http_limits *limits,
         size_t step)
{
    struct tws_http_connect connect = {.limits = *limits};
    struct tws_buffer in = TWS_BUFFER_EMPTY;
    struct tws_http_head head;
    struct tws_error err = {.http_status = 0};
    struct outcome outcome = {.status = TWS_AGAIN, .body = TWS_EOF};
    while (outcome.status == TWS_AGAIN && outcome.read < text.length) {
        size_t left = text.length - outcome.read;
        size_t part = left < step ? left : step;
        require(tws_buffer_append(&in, text.data + outcome.read, part)
                == TWS_OK);
        outcome.read += part;
        outcome.status = tws_http_connect_take(&connect, &in, &head, &err);
    }
    if (outcome.status == TWS_OK) {
        require(head.status / 100 == 2 && tws_buffer_length(&in) == 0);
    }
    if (outcome.status == TWS_AGAIN) {
        require(tws_buffer_length(&in) < limits->head_bytes);
    }
    if (outcome.status == TWS_REFUSED) {
        require(strncmp(err.reason, "proxy ", 6) == 0);
        outcome.http_status = err.http_status;
    }
    if (outcome.http_status != 0) {
        require(head.status == outcome.http_status);
        require(head.status == 101 || head.status >= 300);
        require(connect.head_length <= limits->head_bytes);
        /* The rest of the bytes is the body. */
        size_t behind = tws_buffer_length(&in) - connect.head_length;
        take_body(
            &outcome, &head,
            (struct tws_span){.data = text.data + outcome.read - behind,
                              .length = text.length - outcome.read + behind},
            step);
    }
    tws_buffer_release(&in);
    return outcome;
}

static void
fuzz_answer(uint8_t choice, struct tws_span text)
{
    struct tws_http_limits limits = {
        .head_bytes = (choice & SMALL) != 0 ? 60 : 16384,
        .field_count = (choice & SMALL) != 0 ? 2 : 128};
    struct outcome whole = converse(text, &limits, text.length);
    struct outcome parts = converse(text, &limits, (size_t)(choice >> 3) + 1);
    if (parts.status == TWS_OK && parts.read < text.length) {
        /* What comes behind is seen only where it comes together. */
        require(whole.status == TWS_REFUSED && whole.http_status == 0);
    }
    else {
        require(whole.status == parts.status);
        require(whole.http_status == parts.http_status);
        require(whole.body == parts.body);
        size_t length = tws_buffer_length(&whole.kept);
        require(length == tws_buffer_length(&parts.kept));
        require(length == 0
                || memcmp(tws_buffer_data(&whole.kept),
                          tws_buffer_data(&parts.kept), length)
                       == 0);
    }
    tws_buffer_release(&whole.kept);
    tws_buffer_release(&parts.kept);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct tws_span text = {.data = (const char *)data + 1,
                            .length = size - 1};
    if ((data[0] & OFFER) != 0) {
        struct input input = {.data = data + 1, .length = size - 1};
        fuzz_offer(data[0], input);
    }
    else {
        fuzz_answer(data[0], text);
    }
    return 0;
}
