/* Both halves of the opening handshake. The first byte chooses the policy
 * and what the bytes behind it are: a request, an answer, or the parts of
 * an offer, split at NUL bytes. */
#include "input.h"
#include "protocol/handshake_client.h"
#include "protocol/handshake_server.h"
#include "protocol/http_fields.h"

static const struct tws_span PROTOCOLS[] = {TWS_SPAN("chat"),
                                            TWS_SPAN("superchat")};
static const struct tws_span LOCATIONS[] = {TWS_SPAN("/chat"), TWS_SPAN("/")};
static const struct tws_span ORIGINS[] = {TWS_SPAN("http://example.com"),
                                          TWS_SPAN("null")};
static const struct tws_http_limits LIMITS = {.head_bytes = 1 << 20,
                                              .field_count = 256};

static struct tws_handshake_policy
choose_policy(uint8_t choice)
{
    struct tws_handshake_policy policy = {
        .protocols = PROTOCOLS,
        .protocol_count = TWS_ARRAY_SIZE(PROTOCOLS),
        .locations = LOCATIONS,
        .location_count = (choice & 0x10) != 0 ? 2 : 0,
        .secure = (choice & 0x20) != 0,
        .origins = {.policy = TWS_ORIGIN_ANY},
    };
    if ((choice & 0x40) != 0) {
        policy.origins.policy = TWS_ORIGIN_SAME;
    }
    else if ((choice & 0x80) != 0) {
        policy.origins = (struct tws_origins){TWS_ORIGIN_LIST, ORIGINS, 2};
    }
    return policy;
}

/* The answer to an accepted request must satisfy the client's half. */
static void
check_accept(const struct tws_handshake_request *request)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    require(tws_handshake_write_accept(&out, request, TWS_SPAN(""), &err)
            == TWS_OK);
    require(tws_http_write_end(&out, &err) == TWS_OK);
    struct tws_handshake_offer offer = {
        .protocols = PROTOCOLS,
        .protocol_count = TWS_ARRAY_SIZE(PROTOCOLS),
    };
    memcpy(offer.key, request->key.data, TWS_KEY_LENGTH);
    struct tws_http_head head;
    struct tws_span protocol;
    struct tws_span extensions;
    require(tws_http_parse_response(tws_buffer_span(&out).data,
                                    tws_buffer_span(&out).length, &LIMITS,
                                    &head, &err)
            == TWS_OK);
    require(
        tws_handshake_check_answer(&head, &offer, &protocol, &extensions, &err)
        == TWS_OK);
    require(tws_span_equal(protocol, request->protocol));
    require(extensions.length == 0);
    tws_buffer_release(&out);
}

static void
check_refusal(const struct tws_error *refusal)
{
    switch (refusal->http_status) {
    case 400:
    case 403:
    case 404:
    case 405:
    case 426:
        break;
    default:
        abort();
    }
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    require(tws_handshake_write_refusal(&out, refusal->http_status,
                                        refusal->reason, true, &err)
            == TWS_OK);
    struct tws_http_head head;
    require(tws_http_parse_response(tws_buffer_span(&out).data,
                                    tws_buffer_span(&out).length, &LIMITS,
                                    &head, &err)
            == TWS_OK);
    require(head.status == refusal->http_status);
    require(tws_http_lists_token(&head, TWS_SPAN("Connection"),
                                 TWS_SPAN("close")));
    tws_buffer_release(&out);
}

static void
check_upgrade(const struct tws_http_head *head,
              const struct tws_handshake_request *request,
              const struct tws_handshake_policy *policy)
{
    require(head->version_minor >= 1);
    require(tws_span_equal(head->method, TWS_SPAN("GET")));
    require(request->host.length > 0);
    require(tws_handshake_key_valid(request->key));
    const struct tws_http_field *version =
        tws_http_find(head, TWS_SPAN("Sec-WebSocket-Version"), NULL);
    require(version != NULL && tws_span_equal(version->value, TWS_SPAN("13")));
    require(tws_http_lists_token(head, TWS_SPAN("Connection"),
                                 TWS_SPAN("upgrade")));
    require(policy->location_count == 0
            || tws_span_equal(request->path, TWS_SPAN("/"))
            || tws_span_equal(request->path, TWS_SPAN("/chat")));
    require(request->protocol.length == 0
            || tws_span_equal(request->protocol, TWS_SPAN("chat"))
            || tws_span_equal(request->protocol, TWS_SPAN("superchat")));
    require(policy->origins.policy == TWS_ORIGIN_ANY
            || request->origin.length == 0
            || tws_origin_valid(request->origin));
    check_accept(request);
}

static void
fuzz_request(struct tws_span text, const struct tws_handshake_policy *policy)
{
    struct tws_http_head head;
    struct tws_error err = {0};
    if (tws_http_parse_request(text.data, text.length, &LIMITS, &head, &err)
        != TWS_OK) {
        return;
    }
    struct tws_handshake_request request;
    enum tws_status status =
        tws_handshake_judge(&head, policy, &request, &err);
    if (status != TWS_OK) {
        require(status == TWS_REFUSED);
        check_refusal(&err);
        return;
    }
    require(request.path.length > 0 && request.path.data[0] == '/');
    require(request.host.length > 0 || head.version_minor == 0);
    require(request.host.length == 0 || tws_host_valid(request.host));
    require(tws_http_find(&head, TWS_SPAN("Transfer-Encoding"), NULL) == NULL);
    const struct tws_http_field *length =
        tws_http_find(&head, TWS_SPAN("Content-Length"), NULL);
    require(length == NULL || tws_span_equal(length->value, TWS_SPAN("0")));
    if (request.upgrade) {
        check_upgrade(&head, &request, policy);
    }
}

static void
fuzz_answer(struct tws_span text)
{
    struct tws_http_head head;
    struct tws_error err = {0};
    if (tws_http_parse_response(text.data, text.length, &LIMITS, &head, &err)
        != TWS_OK) {
        return;
    }
    struct tws_handshake_offer offer = {
        .protocols = PROTOCOLS,
        .protocol_count = TWS_ARRAY_SIZE(PROTOCOLS),
        .extensions = TWS_SPAN("permessage-deflate"),
    };
    memcpy(offer.key, "dGhlIHNhbXBsZSBub25jZQ==", TWS_KEY_LENGTH);
    struct tws_span protocol;
    struct tws_span extensions;
    enum tws_status status = tws_handshake_check_answer(
        &head, &offer, &protocol, &extensions, &err);
    if (status != TWS_OK) {
        require(status == TWS_REFUSED && err.http_status == head.status);
        return;
    }
    require(head.status == 101);
    const struct tws_http_field *accept =
        tws_http_find(&head, TWS_SPAN("Sec-WebSocket-Accept"), NULL);
    require(accept != NULL
            && tws_span_equal(accept->value,
                              TWS_SPAN("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    require(protocol.length == 0 || tws_span_equal(protocol, TWS_SPAN("chat"))
            || tws_span_equal(protocol, TWS_SPAN("superchat")));
}

/* An offer that is written must be one well-formed request that says what
 * was offered and nothing else. */
static void
fuzz_offer(struct input input)
{
    struct tws_span protocols[2];
    struct tws_http_field field;
    struct tws_handshake_offer offer = {.protocols = protocols};
    offer.target = input_part(&input, '\0');
    offer.host = input_part(&input, '\0');
    offer.origin = input_part(&input, '\0');
    offer.extensions = input_part(&input, '\0');
    protocols[0] = input_part(&input, '\0');
    protocols[1] = input_part(&input, '\0');
    offer.protocol_count = protocols[0].length == 0 ? 0 : 2;
    field.name = input_part(&input, '\0');
    field.value = input_rest(&input);
    offer.fields = &field;
    offer.field_count = field.name.length == 0 ? 0 : 1;
    memcpy(offer.key, "dGhlIHNhbXBsZSBub25jZQ==", TWS_KEY_LENGTH);

    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    if (tws_handshake_write_request(&out, &offer, &err) != TWS_OK) {
        require(out.start == out.end && err.http_status == 0);
        tws_buffer_release(&out);
        return;
    }
    struct tws_http_head head;
    require(tws_http_parse_request(tws_buffer_span(&out).data,
                                   tws_buffer_span(&out).length, &LIMITS,
                                   &head, &err)
            == TWS_OK);
    size_t expected = 5 + offer.field_count;
    expected += offer.origin.length > 0 ? 1 : 0;
    expected += offer.extensions.length > 0 ? 1 : 0;
    expected += offer.protocol_count > 0 ? 1 : 0;
    require(head.field_count == expected);
    require(tws_span_equal(head.target, offer.target));
    struct tws_handshake_policy policy = choose_policy(0);
    struct tws_handshake_request request;
    policy.protocols = protocols;
    policy.protocol_count = offer.protocol_count;
    if (tws_handshake_judge(&head, &policy, &request, &err) == TWS_OK) {
        require(request.upgrade);
        require(tws_span_equal(request.host, offer.host));
        require(offer.protocol_count == 0
                || tws_span_equal(request.protocol, protocols[0]));
    }
    else {
        /* Only what the caller words freely can be refused. */
        require(err.http_status == 400 && offer.extensions.length > 0);
    }
    tws_buffer_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct input input = {.data = data + 1, .length = size - 1};
    struct tws_span text = {.data = (const char *)input.data,
                            .length = input.length};
    struct tws_handshake_policy policy = choose_policy(data[0]);
    switch (data[0] & 3) {
    case 0:
    case 1:
        fuzz_request(text, &policy);
        break;
    case 2:
        fuzz_answer(text);
        break;
    default:
        fuzz_offer(input);
        break;
    }
    return 0;
}
