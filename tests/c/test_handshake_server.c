#include "guard.h"
#include "harness.h"
#include "protocol/handshake_server.h"

static const struct tws_span PROTOCOLS[] = {TWS_SPAN("chat"),
                                            TWS_SPAN("superchat")};
static const struct tws_span LOCATIONS[] = {TWS_SPAN("/chat"), TWS_SPAN("/")};

static const struct tws_handshake_policy OPEN = {
    .protocols = PROTOCOLS,
    .protocol_count = 2,
};

#define HOST "Host: example.com\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define GET "GET /chat HTTP/1.1\r\n"
#define GOOD GET HOST UPGRADE KEY VERSION

/* What became of the last request; its spans point into the literal. */
static struct tws_handshake_request request;
static struct tws_error refusal;

/* 101 for an upgrade, 200 for a plain request, else the refusal's status.
 * The head is judged where it ends at a guard page first. */
static int
judge_with(const struct tws_handshake_policy *policy, const char *data)
{
    static const struct tws_http_limits limits = {.head_bytes = 70000,
                                                  .field_count = 256};
    size_t length = strlen(data);
    struct tws_http_head head;
    struct guard guard = guard_copy(data, length);
    struct tws_handshake_request untouched;
    memset(&untouched, 0x5a, sizeof(untouched));
    request = untouched;
    refusal = (struct tws_error){0};
    enum tws_status status = tws_http_parse_request(
        (const char *)guard.data, length, &limits, &head, &refusal);
    CHECK_INT(status, TWS_OK);
    enum tws_status guarded =
        tws_handshake_judge(&head, policy, &request, &refusal);
    guard_free(&guard);
    if (guarded != TWS_OK) {
        CHECK_INT(guarded, TWS_REFUSED);
        CHECK(strlen(refusal.reason) > 10);
        CHECK(memcmp(&request, &untouched, sizeof(request)) == 0);
        return refusal.http_status;
    }
    CHECK_INT(tws_http_parse_request(data, length, &limits, &head, &refusal),
              TWS_OK);
    CHECK_INT(tws_handshake_judge(&head, policy, &request, &refusal), TWS_OK);
    return request.upgrade ? 101 : 200;
}

static int
judge(const char *data)
{
    return judge_with(&OPEN, data);
}

#define JUDGE(literal) judge(literal "\r\n")

TEST(good_upgrade_is_accepted)
{
    CHECK_INT(JUDGE(GET HOST UPGRADE KEY VERSION
                    "Origin: http://example.com\r\n"
                    "Sec-WebSocket-Protocol: other, superchat, chat\r\n"
                    "Sec-WebSocket-Extensions: permessage-deflate; a=\"b\"\r\n"
                    "Content-Length: 0\r\n"),
              101);
    CHECK_BYTES(request.path.data, request.path.length, "/chat");
    CHECK_INT(request.query.length, 0);
    CHECK_BYTES(request.host.data, request.host.length, "example.com");
    CHECK_BYTES(request.origin.data, request.origin.length,
                "http://example.com");
    CHECK_BYTES(request.key.data, request.key.length,
                "dGhlIHNhbXBsZSBub25jZQ==");
    CHECK_BYTES(request.protocol.data, request.protocol.length, "superchat");
}

TEST(plain_get_and_head_are_not_upgrades)
{
    CHECK_INT(JUDGE("GET /a?b?c HTTP/1.1\r\n" HOST), 200);
    CHECK_BYTES(request.path.data, request.path.length, "/a");
    CHECK_BYTES(request.query.data, request.query.length, "b?c");
    CHECK_INT(request.key.length, 0);
    CHECK_INT(JUDGE("HEAD / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n"), 200);
    CHECK_INT(JUDGE("GET / HTTP/1.0\r\n"), 200);
    CHECK_INT(request.host.length, 0);
    CHECK_INT(JUDGE("GET / HTTP/1.0\r\n" HOST), 200);
    CHECK_INT(JUDGE(GET HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n"), 200);
    CHECK_INT(JUDGE(GET HOST KEY VERSION "Connection: Upgrade\r\n"), 200);
    /* A path that is not served is a matter of upgrades only. */
    struct tws_handshake_policy policy = OPEN;
    policy.locations = LOCATIONS;
    policy.location_count = 2;
    CHECK_INT(judge_with(&policy, "GET /x HTTP/1.1\r\n" HOST "\r\n"), 200);
}

TEST(missing_or_repeated_host_is_refused)
{
    CHECK_INT(JUDGE(GET UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET), 400);
    CHECK_INT(JUDGE(GOOD HOST), 400);
    CHECK_INT(JUDGE(GOOD "host: other.example\r\n"), 400);
    CHECK_INT(JUDGE("GET / HTTP/1.0\r\n" HOST HOST), 400);
}

TEST(host_that_is_no_host_is_refused)
{
    CHECK_INT(JUDGE(GET "Host:\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: a b\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: a, b\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: a@b\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: a/b\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: a:x\r\n" UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE(GET "Host: [::1]:9000\r\n" UPGRADE KEY VERSION), 101);
    CHECK_INT(JUDGE(GET "Host: localhost:9000\r\n" UPGRADE KEY VERSION), 101);
}

#define TARGET(target) "GET " target " HTTP/1.1\r\n" HOST UPGRADE KEY VERSION

TEST(target_that_is_no_path_is_refused)
{
    CHECK_INT(JUDGE(TARGET("*")), 400);
    CHECK_INT(JUDGE(TARGET("example.com:80")), 400);
    CHECK_INT(JUDGE(TARGET("chat")), 400);
    CHECK_INT(JUDGE(TARGET("?a")), 400);
    CHECK_INT(JUDGE(TARGET("ftp://example.com/")), 400);
    CHECK_INT(JUDGE(TARGET("http:///chat")), 400);
    CHECK_INT(JUDGE(TARGET("http:/chat")), 400);
    CHECK_INT(JUDGE(TARGET("http://")), 400);
    CHECK_INT(JUDGE(TARGET("http://a@b/")), 400);
    CHECK_INT(JUDGE(TARGET("/chat#fragment")), 400);
    CHECK_INT(JUDGE(TARGET("http://a#b")), 400);
}

TEST(absolute_target_is_reduced_to_its_path)
{
    CHECK_INT(JUDGE(TARGET("http://Other.example:81/a/b?c")), 101);
    CHECK_BYTES(request.path.data, request.path.length, "/a/b");
    CHECK_BYTES(request.query.data, request.query.length, "c");
    /* RFC 9112 §3.2.2: the target's host counts, not the field's. */
    CHECK_BYTES(request.host.data, request.host.length, "Other.example:81");
    CHECK_INT(JUDGE(TARGET("WSS://a?b/c")), 101);
    CHECK_BYTES(request.path.data, request.path.length, "/");
    CHECK_BYTES(request.query.data, request.query.length, "b/c");
    CHECK_INT(JUDGE(TARGET("ws://a")), 101);
    CHECK_BYTES(request.path.data, request.path.length, "/");
    CHECK_INT(request.query.length, 0);
    CHECK_INT(JUDGE(TARGET("https://a/")), 101);
    CHECK_INT(JUDGE(TARGET("//a/b")), 101);
    CHECK_BYTES(request.path.data, request.path.length, "//a/b");
    /* The Host field must be there all the same. */
    CHECK_INT(JUDGE("GET http://a/ HTTP/1.1\r\n" UPGRADE KEY VERSION), 400);
}

TEST(content_length_on_upgrade_is_smuggling)
{
    static const char *const VALUES[] = {
        "1",    "5",          "+0",  "-0",  "00",    "0, 0",
        "0,0",  "0x0",        "0 ",  "0;a", "",      "a",
        "\xb2", "4294967296", "0 0", "0.0", "\"0\"", "18446744073709551616",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(VALUES); i++) {
        char data[512];
        /* A trailing space is trimmed by the head's grammar. */
        int trimmed = strcmp(VALUES[i], "0 ") == 0;
        snprintf(data, sizeof(data), GOOD "Content-Length: %s\r\n\r\n",
                 VALUES[i]);
        CHECK_INT(judge(data), trimmed ? 101 : 400);
        snprintf(data, sizeof(data), GET HOST "Content-Length: %s\r\n\r\n",
                 VALUES[i]);
        CHECK_INT(judge(data), trimmed ? 200 : 400);
    }
    CHECK_INT(JUDGE(GOOD "Content-Length: 0\r\n"), 101);
}

TEST(repeated_content_length_is_smuggling)
{
    CHECK_INT(JUDGE(GOOD "Content-Length: 0\r\nContent-Length: 0\r\n"), 400);
    CHECK_INT(JUDGE(GOOD "Content-Length: 0\r\nContent-Length: 5\r\n"), 400);
    CHECK_INT(JUDGE(GET HOST "Content-Length: 0\r\ncontent-length: 0\r\n"),
              400);
}

TEST(transfer_encoding_is_smuggling)
{
    CHECK_INT(JUDGE(GOOD "Transfer-Encoding: chunked\r\n"), 400);
    CHECK_INT(JUDGE(GOOD "transfer-encoding: identity\r\n"), 400);
    CHECK_INT(JUDGE(GOOD "Transfer-Encoding:\r\n"), 400);
    CHECK_INT(JUDGE(GET HOST "Transfer-Encoding: xchunked\r\n"), 400);
    CHECK_INT(JUDGE(GET HOST "Content-Length: 0\r\n"
                             "Transfer-Encoding: chunked\r\n"),
              400);
    CHECK_INT(JUDGE("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"), 400);
}

TEST(other_methods_are_405)
{
    CHECK_INT(JUDGE("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n"), 405);
    CHECK_INT(JUDGE("OPTIONS * HTTP/1.1\r\n" HOST), 405);
    CHECK_INT(JUDGE("CONNECT example.com:80 HTTP/1.1\r\n" HOST), 405);
    CHECK_INT(JUDGE("get / HTTP/1.1\r\n" HOST), 405);
    CHECK_INT(JUDGE("GETX / HTTP/1.1\r\n" HOST), 405);
    CHECK_INT(JUDGE("POST / HTTP/1.1\r\n" HOST UPGRADE KEY VERSION), 405);
    CHECK_INT(JUDGE("HEAD / HTTP/1.1\r\n" HOST UPGRADE KEY VERSION), 405);
}

TEST(connection_notupgrade_is_not_upgrade)
{
#define CONNECTION(value) GET HOST KEY VERSION "Upgrade: websocket\r\n" value
    CHECK_INT(JUDGE(CONNECTION("")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection:\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: notupgrade\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: upgraded\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: keep-alive\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: keep-alive upgrade\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: \"upgrade\"\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: upgrade\xff\r\n")), 400);
    CHECK_INT(JUDGE(CONNECTION("Connection: keep-alive, UPGRADE\r\n")), 101);
    CHECK_INT(JUDGE(CONNECTION("Connection: close\r\n"
                               "Connection: ,upgrade,\r\n")),
              101);
}

TEST(upgrade_is_read_as_a_list)
{
#define UPGRADE_TO(value)                                                     \
    GET HOST KEY VERSION "Connection: upgrade\r\nUpgrade: " value "\r\n"
    CHECK_INT(JUDGE(UPGRADE_TO("websocket, foo")), 101);
    CHECK_INT(JUDGE(UPGRADE_TO("foo/1, WebSocket")), 101);
    CHECK_INT(JUDGE(UPGRADE_TO("WebSocket")), 101);
    CHECK_INT(JUDGE(UPGRADE_TO("foo\r\nUpgrade: websocket")), 101);
    CHECK_INT(JUDGE(UPGRADE_TO("websockets")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("notwebsocket")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("websocket/13")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("foo websocket")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("\"websocket\"")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("websocket\x80")), 200);
    CHECK_INT(JUDGE(UPGRADE_TO("")), 200);
}

TEST(upgrade_by_http_1_0_is_refused)
{
    CHECK_INT(JUDGE("GET / HTTP/1.0\r\n" HOST UPGRADE KEY VERSION), 400);
    CHECK_INT(JUDGE("GET / HTTP/1.2\r\n" HOST UPGRADE KEY VERSION), 101);
}

TEST(version_that_is_not_13_is_426)
{
    static const char *const VALUES[] = {
        "",           "8",
        "12",         "14",
        "013",        "1 3",
        "13 13",      "+13",
        "13.0",       "0x0d",
        "269",        "65549",
        "4294967309", "18446744073709551629",
        "13, 13",     "13, 8",
        "13;a",       "\"13\"",
        "thirteen",   "13\x80",
        "\xb1\xb3",
    };
    CHECK_INT(JUDGE(GET HOST UPGRADE KEY), 426);
    CHECK(strstr(refusal.reason, "Sec-WebSocket-Version: 13") != NULL);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(VALUES); i++) {
        char data[512];
        snprintf(data, sizeof(data),
                 GET HOST UPGRADE KEY "Sec-WebSocket-Version: %s\r\n\r\n",
                 VALUES[i]);
        CHECK_INT(judge(data), 426);
        CHECK(strstr(refusal.reason, "Sec-WebSocket-Version: 13") != NULL);
    }
    /* A draft of the protocol has other keys: the version is the answer. */
    CHECK_INT(JUDGE(GET HOST UPGRADE "Sec-WebSocket-Key1: 1\r\n"), 426);
}

TEST(version_given_twice_is_refused)
{
    CHECK_INT(JUDGE(GOOD VERSION), 400);
    CHECK_INT(JUDGE(GOOD "sec-websocket-version: 8\r\n"), 400);
}

TEST(wrong_key_is_refused)
{
#define KEYED(value)                                                          \
    GET HOST UPGRADE VERSION "Sec-WebSocket-Key: " value "\r\n"
    CHECK_INT(JUDGE(GET HOST UPGRADE VERSION), 400);
    CHECK_INT(JUDGE(KEYED("")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25jZQ=")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25jZQ===")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25jZUVF")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25j-Q==")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25j Q==")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25j\xe9Q==")), 400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25jZQ==, "
                          "dGhlIHNhbXBsZSBub25jZQ==")),
              400);
    CHECK_INT(JUDGE(KEYED("dGhlIHNhbXBsZSBub25jZQ==")), 101);
}

TEST(repeated_key_is_refused)
{
    CHECK_INT(JUDGE(GOOD KEY), 400);
    CHECK_INT(JUDGE(GOOD "sec-websocket-key: x\r\n"), 400);
}

#define PROTOCOL(value) GOOD "Sec-WebSocket-Protocol: " value "\r\n"

TEST(subprotocol_is_the_clients_first_that_we_speak)
{
    CHECK_INT(JUDGE(PROTOCOL("chat, superchat")), 101);
    CHECK_BYTES(request.protocol.data, request.protocol.length, "chat");
    CHECK_INT(JUDGE(PROTOCOL("x,,superchat,chat")), 101);
    CHECK_BYTES(request.protocol.data, request.protocol.length, "superchat");
    CHECK_INT(JUDGE(PROTOCOL("x") "Sec-WebSocket-Protocol: y, chat\r\n"
                                  "sec-websocket-protocol: superchat\r\n"),
              101);
    CHECK_BYTES(request.protocol.data, request.protocol.length, "chat");
    CHECK_INT(JUDGE(PROTOCOL("Chat, chats, cha")), 101);
    CHECK_INT(request.protocol.length, 0);
    CHECK_INT(JUDGE(GOOD), 101);
    CHECK_INT(request.protocol.length, 0);
}

TEST(broken_subprotocol_list_is_refused)
{
    CHECK_INT(JUDGE(PROTOCOL("")), 400);
    CHECK_INT(JUDGE(PROTOCOL(" , ")), 400);
    CHECK_INT(JUDGE(PROTOCOL("chat superchat")), 400);
    CHECK_INT(JUDGE(PROTOCOL("chat, \"x\"")), 400);
    CHECK_INT(JUDGE(PROTOCOL("chat, a/b")), 400);
    CHECK_INT(JUDGE(PROTOCOL("chat, caf\xc3\xa9")), 400);
    CHECK_INT(JUDGE(PROTOCOL("chat\x80")), 400);
}

#define MORE_EXTENSIONS(value) "Sec-WebSocket-Extensions: " value "\r\n"
#define EXTENSIONS(value) GOOD MORE_EXTENSIONS(value)

TEST(broken_extension_list_is_refused)
{
    CHECK_INT(JUDGE(EXTENSIONS("a; b=c, d")), 101);
    CHECK_INT(JUDGE(EXTENSIONS("") MORE_EXTENSIONS("a")), 101);
    CHECK_INT(JUDGE(EXTENSIONS("")), 101);
    CHECK_INT(JUDGE(EXTENSIONS(", ,") MORE_EXTENSIONS("")), 101);
    CHECK_INT(JUDGE(EXTENSIONS("a;")), 400);
    CHECK_INT(JUDGE(EXTENSIONS("a, b; c=")), 400);
    CHECK_INT(JUDGE(EXTENSIONS("a; b=\"c")), 400);
    CHECK_INT(JUDGE(EXTENSIONS("a; b=\"c d\"")), 400);
    CHECK_INT(JUDGE(EXTENSIONS("a") MORE_EXTENSIONS("=")), 400);
    CHECK_INT(JUDGE(EXTENSIONS("a\xff")), 400);
}

TEST(foreign_origin_is_403)
{
    struct tws_handshake_policy policy = OPEN;
#define FROM(origin) GOOD "Origin: " origin "\r\n\r\n"
    CHECK_INT(judge_with(&policy, FROM("http://evil.org")), 101);
    policy.origins.policy = TWS_ORIGIN_SAME;
    CHECK_INT(judge_with(&policy, GOOD "\r\n"), 101);
    CHECK_INT(judge_with(&policy, FROM("http://example.com")), 101);
    CHECK_INT(judge_with(&policy, FROM("http://example.com.evil.org")), 403);
    CHECK_INT(judge_with(&policy, FROM("http://example.com:81")), 403);
    CHECK_INT(judge_with(&policy, FROM("null")), 403);
    CHECK_INT(judge_with(&policy, FROM("")), 403);
    CHECK_INT(judge_with(&policy, FROM("http://example.com\xff")), 403);
    /* An absolute target's host is the one that counts. */
    CHECK_INT(judge_with(&policy,
                         "GET http://other.example/ HTTP/1.1\r\n" HOST UPGRADE
                             KEY VERSION "Origin: http://example.com\r\n\r\n"),
              403);
    policy.secure = true;
    CHECK_INT(judge_with(&policy, FROM("http://example.com")), 403);
    CHECK_INT(judge_with(&policy, FROM("https://example.com")), 101);
    const struct tws_span list[] = {TWS_SPAN("https://app.example")};
    policy.origins = (struct tws_origins){TWS_ORIGIN_LIST, list, 1};
    CHECK_INT(judge_with(&policy, FROM("https://app.example:443")), 101);
    CHECK_INT(judge_with(&policy, FROM("https://example.com")), 403);
}

TEST(origin_given_twice_is_refused)
{
    CHECK_INT(JUDGE(GOOD "Origin: http://example.com\r\n"
                         "Origin: http://evil.org\r\n"),
              400);
}

TEST(location_must_match_exactly)
{
    struct tws_handshake_policy policy = OPEN;
    policy.locations = LOCATIONS;
    policy.location_count = 2;
    CHECK_INT(judge_with(&policy, TARGET("/chat") "\r\n"), 101);
    CHECK_INT(judge_with(&policy, TARGET("/chat?x") "\r\n"), 101);
    CHECK_INT(judge_with(&policy, TARGET("ws://a") "\r\n"), 101);
    CHECK_INT(judge_with(&policy, TARGET("/chat/") "\r\n"), 404);
    CHECK_INT(judge_with(&policy, TARGET("/Chat") "\r\n"), 404);
    CHECK_INT(judge_with(&policy, TARGET("/cha") "\r\n"), 404);
    CHECK_INT(judge_with(&policy, TARGET("/%63hat") "\r\n"), 404);
    CHECK_INT(judge_with(&policy, TARGET("//chat") "\r\n"), 404);
}

TEST(high_byte_in_any_value_never_upgrades)
{
    /* In each value of the handshake, the target included. */
    static const char *const NAMES[] = {
        "Host: ",
        "Upgrade: ",
        "Connection: ",
        "Sec-WebSocket-Key: ",
        "Sec-WebSocket-Version: ",
        "Sec-WebSocket-Protocol: ",
        "Sec-WebSocket-Extensions: ",
        "Content-Length: ",
    };
    static const char DATA[] = GOOD "Sec-WebSocket-Protocol: chat\r\n"
                                    "Sec-WebSocket-Extensions: a;b=c\r\n"
                                    "Content-Length: 0\r\n\r\n";
    CHECK_INT(judge(DATA), 101);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(NAMES); i++) {
        for (int byte = 0x80; byte <= 0xff; byte++) {
            char data[sizeof(DATA)];
            memcpy(data, DATA, sizeof(DATA));
            char *value = strstr(data, NAMES[i]) + strlen(NAMES[i]);
            *value = (char)byte;
            CHECK(judge(data) != 101);
        }
    }
}

TEST(flood_of_list_elements_is_judged)
{
    static char data[66000];
    static const char *const PATTERNS[] = {" ", ",", "a,", "a;b,"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(PATTERNS); i++) {
        size_t length = (size_t)snprintf(data, sizeof(data),
                                         GOOD "Sec-WebSocket-Extensions: x,");
        while (length < 65536) {
            length += (size_t)snprintf(data + length, sizeof(data) - length,
                                       "%s", PATTERNS[i]);
        }
        snprintf(data + length, sizeof(data) - length, "\r\n\r\n");
        CHECK_INT(judge(data), 101);
    }
}

TEST(sample_request_gives_the_sample_answer)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(JUDGE(PROTOCOL("chat")), 101);
    CHECK_INT(
        tws_handshake_write_accept(&out, &request, TWS_SPAN("a; b"), &err),
        TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 101 Switching Protocols\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                "Sec-WebSocket-Protocol: chat\r\n"
                "Sec-WebSocket-Extensions: a; b\r\n");
    tws_buffer_consume(&out, tws_buffer_length(&out));
    CHECK_INT(JUDGE(GOOD), 101);
    CHECK_INT(tws_handshake_write_accept(&out, &request, TWS_SPAN(""), &err),
              TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 101 Switching Protocols\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
    tws_buffer_release(&out);
}

TEST(answer_that_would_break_the_head_leaves_the_buffer_alone)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(JUDGE(GOOD), 101);
    CHECK_INT(tws_buffer_append(&out, "kept", 4), TWS_OK);
    CHECK_INT(tws_handshake_write_accept(&out, &request,
                                         TWS_SPAN("a\r\nSet-Cookie: x"), &err),
              TWS_REFUSED);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out), "kept");
    CHECK_INT(tws_handshake_write_refusal(&out, 999, "no", false, &err),
              TWS_REFUSED);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out), "kept");
    tws_buffer_release(&out);
}

TEST(answer_without_memory_is_nomem)
{
    /* A buffer that can't grow: no length is left to count with. */
    struct tws_buffer full = {.end = SIZE_MAX / 2, .capacity = SIZE_MAX / 2};
    struct tws_error err;
    CHECK_INT(JUDGE(GOOD), 101);
    CHECK_INT(tws_handshake_write_accept(&full, &request, TWS_SPAN(""), &err),
              TWS_NOMEM);
    CHECK_INT(err.status, TWS_NOMEM);
    CHECK_INT(tws_handshake_write_refusal(&full, 400, "no", false, &err),
              TWS_NOMEM);
    CHECK_INT(full.end, SIZE_MAX / 2);
}

TEST(refusal_may_have_more_fields)
{
    static const struct tws_http_field FIELDS[] = {
        {{"WWW-Authenticate", 16}, {"Basic realm=x", 13}},
        {{"X-Empty", 7}, {"", 0}},
        {{"WWW-Authenticate", 16}, {"Negotiate", 9}},
    };
    static const struct tws_http_field BAD = {{"X-A", 3}, {"a\r\nb", 4}};
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_handshake_write_refusal_with(&out, 401, FIELDS, 3, "no",
                                               false, &err),
              TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 401 Unauthorized\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 3\r\nConnection: close\r\n"
                "WWW-Authenticate: Basic realm=x\r\n"
                "WWW-Authenticate: Negotiate\r\n\r\nno\n");
    size_t length = tws_buffer_length(&out);
    CHECK_INT(tws_handshake_write_refusal_with(&out, 401, &BAD, 1, "no", false,
                                               &err),
              TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(tws_buffer_length(&out), length);
    tws_buffer_release(&out);
}

TEST(refusal_of_a_version_names_13)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_handshake_write_refusal(&out, 426, "use 13", false, &err),
              TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 426 Upgrade Required\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 7\r\n"
                "Connection: close, Upgrade\r\n"
                "Upgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                "\r\n"
                "use 13\n");
    tws_buffer_release(&out);
}

TEST(refusal_counts_the_body_it_leaves_out_for_head)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_handshake_write_refusal(&out, 405, "no POST", true, &err),
              TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 405 Method Not Allowed\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 8\r\n"
                "Connection: close\r\n"
                "Allow: GET, HEAD\r\n"
                "\r\n");
    tws_buffer_consume(&out, tws_buffer_length(&out));
    CHECK_INT(tws_handshake_write_refusal(&out, 403, "", false, &err), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "HTTP/1.1 403 Forbidden\r\n"
                "Content-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 1\r\n"
                "Connection: close\r\n"
                "\r\n"
                "\n");
    tws_buffer_release(&out);
}

RUN(T(good_upgrade_is_accepted), T(plain_get_and_head_are_not_upgrades),
    T(missing_or_repeated_host_is_refused), T(host_that_is_no_host_is_refused),
    T(target_that_is_no_path_is_refused),
    T(absolute_target_is_reduced_to_its_path),
    T(content_length_on_upgrade_is_smuggling),
    T(repeated_content_length_is_smuggling), T(transfer_encoding_is_smuggling),
    T(other_methods_are_405), T(connection_notupgrade_is_not_upgrade),
    T(upgrade_is_read_as_a_list), T(upgrade_by_http_1_0_is_refused),
    T(version_that_is_not_13_is_426), T(version_given_twice_is_refused),
    T(wrong_key_is_refused), T(repeated_key_is_refused),
    T(subprotocol_is_the_clients_first_that_we_speak),
    T(broken_subprotocol_list_is_refused), T(broken_extension_list_is_refused),
    T(foreign_origin_is_403), T(origin_given_twice_is_refused),
    T(location_must_match_exactly), T(high_byte_in_any_value_never_upgrades),
    T(flood_of_list_elements_is_judged),
    T(sample_request_gives_the_sample_answer),
    T(answer_that_would_break_the_head_leaves_the_buffer_alone),
    T(answer_without_memory_is_nomem), T(refusal_may_have_more_fields),
    T(refusal_may_have_more_fields), T(refusal_of_a_version_names_13),
    T(refusal_counts_the_body_it_leaves_out_for_head))
