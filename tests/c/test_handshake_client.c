#include "guard.h"
#include "harness.h"
#include "protocol/handshake_client.h"
#include "protocol/handshake_server.h"

static const struct tws_span PROTOCOLS[] = {TWS_SPAN("chat"),
                                            TWS_SPAN("superchat")};

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* The sample of RFC 6455 §1.2. */
static struct tws_handshake_offer
sample_offer(void)
{
    struct tws_handshake_offer offer = {
        .target = TWS_SPAN("/chat"),
        .host = TWS_SPAN("server.example.com"),
        .origin = TWS_SPAN("http://example.com"),
        .protocols = PROTOCOLS,
        .protocol_count = 2,
    };
    memcpy(offer.key, "dGhlIHNhbXBsZSBub25jZQ==", TWS_KEY_LENGTH);
    return offer;
}

TEST(sample_offer_gives_the_whole_request)
{
    const struct tws_http_field fields[] = {
        {TWS_SPAN("User-Agent"), TWS_SPAN("test")},
        {TWS_SPAN("Cookie"), TWS_SPAN("a=b; c=d")},
    };
    struct tws_handshake_offer offer = sample_offer();
    offer.extensions = TWS_SPAN("permessage-deflate");
    offer.fields = fields;
    offer.field_count = 2;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_handshake_write_request(&out, &offer, &err), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "GET /chat HTTP/1.1\r\n"
                "Host: server.example.com\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                "Origin: http://example.com\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate\r\n"
                "Sec-WebSocket-Protocol: chat, superchat\r\n"
                "User-Agent: test\r\n"
                "Cookie: a=b; c=d\r\n"
                "\r\n");
    tws_buffer_release(&out);
}

TEST(smallest_offer_has_no_empty_fields)
{
    struct tws_handshake_offer offer = sample_offer();
    offer.origin = TWS_SPAN("");
    offer.protocol_count = 0;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_handshake_write_request(&out, &offer, &err), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "GET /chat HTTP/1.1\r\n"
                "Host: server.example.com\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                "\r\n");
    tws_buffer_release(&out);
}

/* Whether the offer is refused with nothing written. */
static bool
write_refused(const struct tws_handshake_offer *offer)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {0};
    CHECK_INT(tws_buffer_append(&out, "kept", 4), TWS_OK);
    enum tws_status status = tws_handshake_write_request(&out, offer, &err);
    if (status != TWS_OK) {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(err.http_status, 0);
        CHECK(strlen(err.reason) > 10);
        CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out), "kept");
    }
    tws_buffer_release(&out);
    return status != TWS_OK;
}

TEST(offer_that_would_break_the_head_is_refused)
{
    static const char *const TARGETS[] = {
        "",     "chat",  "*",     "/a b", "/a\r\nX: y",
        "/a#b", "/\xc3", "/\x7f", "?a=b", "http://a/",
    };
    struct tws_handshake_offer offer = sample_offer();
    CHECK(!write_refused(&offer));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(TARGETS); i++) {
        offer.target = text(TARGETS[i]);
        CHECK(write_refused(&offer));
    }
    static const char *const HOSTS[] = {
        "", "a b", "a\r\nX: y", "a/b", "a@b", "h\xc3\xb6st", ":80",
    };
    offer = sample_offer();
    for (size_t i = 0; i < TWS_ARRAY_SIZE(HOSTS); i++) {
        offer.host = text(HOSTS[i]);
        CHECK(write_refused(&offer));
    }
    offer = sample_offer();
    offer.origin = text("http://a\r\nX: y");
    CHECK(write_refused(&offer));
    offer = sample_offer();
    offer.extensions = text("a\r\nX: y");
    CHECK(write_refused(&offer));
    offer = sample_offer();
    memset(offer.key, 0, sizeof(offer.key));
    CHECK(write_refused(&offer));
    memset(offer.key, 'A', sizeof(offer.key));
    CHECK(write_refused(&offer));
}

TEST(subprotocol_that_is_no_token_or_comes_twice_is_refused)
{
    static const char *const WRONG[] = {
        "", "a b", "a,b", "a\r\nX: y", "caf\xc3\xa9", "\"a\"", "chat",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(WRONG); i++) {
        const struct tws_span protocols[] = {TWS_SPAN("chat"), text("b"),
                                             text(WRONG[i])};
        struct tws_handshake_offer offer = sample_offer();
        offer.protocols = protocols;
        offer.protocol_count = 2;
        CHECK(!write_refused(&offer));
        offer.protocol_count = 3;
        CHECK(write_refused(&offer));
    }
}

TEST(field_of_the_handshake_itself_is_refused)
{
    static const char *const RESERVED[] = {
        "Host",
        "hOST",
        "Upgrade",
        "Connection",
        "Content-Length",
        "transfer-encoding",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Sec-WebSocket-Anything",
        "Sec-WebSocket-",
        "Origin",
        "origin",
        "",
        "A B",
        "A:",
        "A\r\nB",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(RESERVED); i++) {
        struct tws_http_field field = {text(RESERVED[i]), TWS_SPAN("x")};
        struct tws_handshake_offer offer = sample_offer();
        offer.fields = &field;
        offer.field_count = 1;
        CHECK(write_refused(&offer));
    }
    struct tws_http_field field = {TWS_SPAN("Origin"), TWS_SPAN("null")};
    struct tws_handshake_offer offer = sample_offer();
    offer.fields = &field;
    offer.field_count = 1;
    offer.origin = TWS_SPAN("");
    CHECK(!write_refused(&offer)); /* where none is given otherwise */
    field.name = TWS_SPAN("Sec-WebSocke");
    CHECK(!write_refused(&offer));
    field.value = TWS_SPAN("a\r\nB: c");
    CHECK(write_refused(&offer));
}

/* What became of the last answer; spans point into the literal. */
static struct tws_span protocol;
static struct tws_span extensions;
static struct tws_error refusal;

/* 0 where connected, else the status of the refusal. */
static int
check_with(const struct tws_handshake_offer *offer, const char *data)
{
    static const struct tws_http_limits limits = {.head_bytes = 16384,
                                                  .field_count = 128};
    struct tws_http_head head;
    refusal = (struct tws_error){0};
    protocol = extensions = TWS_SPAN("untouched");
    CHECK_INT(
        tws_http_parse_response(data, strlen(data), &limits, &head, &refusal),
        TWS_OK);
    enum tws_status status = tws_handshake_check_answer(
        &head, offer, &protocol, &extensions, &refusal);
    if (status == TWS_OK) {
        return 0;
    }
    CHECK_INT(status, TWS_REFUSED);
    CHECK(strlen(refusal.reason) > 10);
    CHECK_BYTES(protocol.data, protocol.length, "untouched");
    CHECK_BYTES(extensions.data, extensions.length, "untouched");
    return refusal.http_status;
}

static int
check(const char *data)
{
    struct tws_handshake_offer offer = sample_offer();
    return check_with(&offer, data);
}

#define LINE "HTTP/1.1 101 Switching Protocols\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define GOOD LINE UPGRADE CONNECTION ACCEPT

TEST(good_answer_connects)
{
    CHECK_INT(check(GOOD "\r\n"), 0);
    CHECK_INT(protocol.length, 0);
    CHECK_INT(extensions.length, 0);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: superchat\r\n\r\n"), 0);
    CHECK_BYTES(protocol.data, protocol.length, "superchat");
    CHECK_INT(check(LINE "UPGRADE: WebSocket\r\n"
                         "connection: keep-alive, upgrade\r\n" ACCEPT "\r\n"),
              0);
}

TEST(other_status_is_reported)
{
    CHECK_INT(
        check("HTTP/1.1 403 Forbidden\r\n" UPGRADE CONNECTION ACCEPT "\r\n"),
        403);
    CHECK(strcmp(refusal.reason, "the server answered 403 Forbidden, "
                                 "expected 101 Switching Protocols")
          == 0);
    CHECK_INT(check("HTTP/1.1 200 OK\r\n" UPGRADE CONNECTION ACCEPT "\r\n"),
              200);
    CHECK_INT(check("HTTP/1.1 100 Continue\r\n\r\n"), 100);
    CHECK_INT(check("HTTP/1.1 302 \r\nLocation: /x\r\n\r\n"), 302);
    CHECK_INT(check("HTTP/1.0 101 x\r\n" UPGRADE CONNECTION ACCEPT "\r\n"),
              101);
}

TEST(wrong_missing_or_repeated_upgrade_is_refused)
{
    CHECK_INT(check(LINE CONNECTION ACCEPT "\r\n"), 101);
    CHECK_INT(check(GOOD UPGRADE "\r\n"), 101);
    CHECK_INT(check(LINE CONNECTION ACCEPT "Upgrade: h2c\r\n\r\n"), 101);
    CHECK_INT(check(LINE CONNECTION ACCEPT "Upgrade: websockets\r\n\r\n"),
              101);
    CHECK_INT(check(LINE CONNECTION ACCEPT "Upgrade: websocket, x\r\n\r\n"),
              101);
    CHECK_INT(check(LINE CONNECTION ACCEPT "Upgrade:\r\n\r\n"), 101);
}

TEST(connection_notupgrade_is_refused)
{
    CHECK_INT(check(LINE UPGRADE ACCEPT "\r\n"), 101);
    CHECK_INT(check(GOOD CONNECTION "\r\n"), 0);
    CHECK_INT(check(GOOD "Connection: keep-alive\r\n\r\n"), 0);
    CHECK_INT(check(LINE UPGRADE ACCEPT "Connection: keep-alive\r\n"
                                        "Connection: close\r\n\r\n"),
              101);
    CHECK_INT(check(LINE UPGRADE ACCEPT "Connection: notupgrade\r\n\r\n"),
              101);
    CHECK_INT(check(LINE UPGRADE ACCEPT "Connection: close\r\n\r\n"), 101);
    CHECK_INT(check(LINE UPGRADE ACCEPT "Connection:\r\n\r\n"), 101);
}

TEST(wrong_accept_is_refused)
{
#define ACCEPTED(value)                                                       \
    LINE UPGRADE CONNECTION "Sec-WebSocket-Accept: " value "\r\n\r\n"
    CHECK_INT(check(ACCEPTED("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), 0);
    CHECK_INT(check(LINE UPGRADE CONNECTION "\r\n"), 101);
    CHECK_INT(check(GOOD ACCEPT "\r\n"), 101);
    CHECK_INT(check(ACCEPTED("")), 101);
    CHECK_INT(check(ACCEPTED("s3pPLMBiTxaQ9kYGzzhZRbK+xOo")), 101);
    CHECK_INT(check(ACCEPTED("s3pPLMBiTxaQ9kYGzzhZRbK+xOo==")), 101);
    CHECK_INT(check(ACCEPTED("S3PPLMBITXAQ9KYGZZHZRBK+XOO=")), 101);
    CHECK_INT(check(ACCEPTED("t3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), 101);
    CHECK_INT(check(ACCEPTED("dGhlIHNhbXBsZSBub25jZQ==")), 101);
    CHECK_INT(check(ACCEPTED("Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=")), 101);
}

TEST(subprotocol_that_was_not_offered_is_refused)
{
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: chat\r\n\r\n"), 0);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: Chat\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: other\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: chat, chat\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol:\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Protocol: chat\r\n"
                         "Sec-WebSocket-Protocol: chat\r\n\r\n"),
              101);
    struct tws_handshake_offer offer = sample_offer();
    offer.protocol_count = 0;
    CHECK_INT(check_with(&offer, GOOD "Sec-WebSocket-Protocol: chat\r\n\r\n"),
              101);
}

TEST(extensions_where_none_were_offered_are_refused)
{
    struct tws_handshake_offer offer = sample_offer();
    CHECK_INT(check(GOOD "Sec-WebSocket-Extensions: a\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Extensions: ,\r\n\r\n"), 101);
    CHECK_INT(check(GOOD "Sec-WebSocket-Extensions:\r\n\r\n"), 0);
    offer.extensions = TWS_SPAN("a, b");
    CHECK_INT(
        check_with(&offer, GOOD "Sec-WebSocket-Extensions: a; x\r\n\r\n"), 0);
    CHECK_BYTES(extensions.data, extensions.length, "a; x");
    CHECK_INT(check_with(&offer, GOOD "Sec-WebSocket-Extensions: a\r\n"
                                      "Sec-WebSocket-Extensions: b\r\n\r\n"),
              101);
}

TEST(answer_is_checked_where_it_ends_at_a_guard_page)
{
    static const char DATA[] = GOOD "Sec-WebSocket-Protocol: chat\r\n\r\n";
    size_t length = sizeof(DATA) - 1;
    struct tws_handshake_offer offer = sample_offer();
    /* Each byte changed: no crash, and nothing in the accept may differ. */
    const char *accept = strstr(DATA, "s3pP");
    for (size_t i = 0; i < length; i++) {
        struct guard guard = guard_copy(DATA, length);
        guard.data[i] ^= 0x80;
        const struct tws_http_limits limits = TWS_HTTP_LIMITS_DEFAULT;
        struct tws_http_head head;
        struct tws_error err;
        struct tws_span chosen;
        struct tws_span agreed;
        if (tws_http_parse_response((const char *)guard.data, length, &limits,
                                    &head, &err)
            == TWS_OK) {
            enum tws_status status = tws_handshake_check_answer(
                &head, &offer, &chosen, &agreed, &err);
            bool in_accept = DATA + i >= accept && DATA + i < accept + 28;
            CHECK(!in_accept || status == TWS_REFUSED);
        }
        guard_free(&guard);
    }
}

TEST(request_without_memory_is_nomem)
{
    /* A buffer that can't grow: no length is left to count with. */
    struct tws_buffer full = {.end = SIZE_MAX / 2, .capacity = SIZE_MAX / 2};
    struct tws_handshake_offer offer = sample_offer();
    struct tws_error err;
    CHECK_INT(tws_handshake_write_request(&full, &offer, &err), TWS_NOMEM);
    CHECK_INT(err.status, TWS_NOMEM);
    CHECK_INT(full.end, SIZE_MAX / 2);
}

TEST(both_halves_agree)
{
    struct tws_handshake_offer offer = sample_offer();
    offer.extensions = TWS_SPAN("permessage-deflate; client_max_window_bits");
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    const struct tws_http_limits limits = TWS_HTTP_LIMITS_DEFAULT;
    const struct tws_handshake_policy policy = {
        .protocols = PROTOCOLS + 1,
        .protocol_count = 1,
        .origins = {.policy = TWS_ORIGIN_ANY},
    };
    struct tws_http_head head;
    struct tws_handshake_request request;
    CHECK_INT(tws_handshake_write_request(&out, &offer, &err), TWS_OK);
    CHECK_INT(tws_http_parse_request((const char *)tws_buffer_data(&out),
                                     tws_buffer_length(&out), &limits, &head,
                                     &err),
              TWS_OK);
    CHECK_INT(tws_handshake_judge(&head, &policy, &request, &err), TWS_OK);
    CHECK(request.upgrade);

    struct tws_buffer answer = TWS_BUFFER_EMPTY;
    CHECK_INT(tws_handshake_write_accept(&answer, &request,
                                         TWS_SPAN("permessage-deflate"), &err),
              TWS_OK);
    CHECK_INT(tws_http_write_end(&answer, &err), TWS_OK);
    CHECK_INT(tws_http_parse_response((const char *)tws_buffer_data(&answer),
                                      tws_buffer_length(&answer), &limits,
                                      &head, &err),
              TWS_OK);
    CHECK_INT(tws_handshake_check_answer(&head, &offer, &protocol, &extensions,
                                         &err),
              TWS_OK);
    CHECK_BYTES(protocol.data, protocol.length, "superchat");
    CHECK_BYTES(extensions.data, extensions.length, "permessage-deflate");
    tws_buffer_release(&out);
    tws_buffer_release(&answer);
}

RUN(T(sample_offer_gives_the_whole_request),
    T(smallest_offer_has_no_empty_fields),
    T(offer_that_would_break_the_head_is_refused),
    T(subprotocol_that_is_no_token_or_comes_twice_is_refused),
    T(field_of_the_handshake_itself_is_refused), T(good_answer_connects),
    T(other_status_is_reported),
    T(wrong_missing_or_repeated_upgrade_is_refused),
    T(connection_notupgrade_is_refused), T(wrong_accept_is_refused),
    T(subprotocol_that_was_not_offered_is_refused),
    T(extensions_where_none_were_offered_are_refused),
    T(answer_is_checked_where_it_ends_at_a_guard_page),
    T(request_without_memory_is_nomem), T(both_halves_agree))
