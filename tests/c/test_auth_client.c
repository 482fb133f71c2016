#include "scarce_buffers.h"

#include "harness.h"
#include "protocol/auth_client.h"
#include "protocol/digest_auth.h"

#define NONCE "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
#define CNONCE "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
#define OPAQUE "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
#define COMMON                                                                \
    "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", "               \
    "nonce=\"" NONCE "\", opaque=\"" OPAQUE "\""
#define MD5_CHALLENGE "Digest " COMMON ", algorithm=MD5"
#define SHA256_CHALLENGE "Digest " COMMON ", algorithm=SHA-256"

static const struct tws_auth_client MUFASA = {
    .user = {"Mufasa", 6},
    .password = {"Circle of Life", 14},
    .method = {"GET", 3},
    .target = {"/dir/index.html", 15},
    .cnonce = {CNONCE, sizeof(CNONCE) - 1},
    .nonce_count = 1,
};

static const char pattern[230];

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* The answer to one or two fields, or "!" and the status of the refusal. */
static const char *
answer(const struct tws_auth_client *client, const char *first,
       const char *second)
{
    static char got[2048];
    const struct tws_span challenges[] = {text(first), text(second)};
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {0};
    CHECK_INT(tws_buffer_append(&out, "before", 6), TWS_OK);
    enum tws_status status =
        tws_auth_answer(challenges, 2, client, &out, &err);
    struct tws_span value = {.data = (const char *)tws_buffer_data(&out) + 6,
                             .length = tws_buffer_length(&out) - 6};
    CHECK(memcmp(value.data - 6, "before", 6) == 0);
    if (status == TWS_OK) {
        CHECK(tws_http_is_field_value(value));
        (void)snprintf(got, sizeof(got), "%.*s", (int)value.length,
                       value.data);
    }
    else {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(value.length, 0);
        (void)snprintf(got, sizeof(got), "! %u", err.http_status);
    }
    tws_buffer_release(&out);
    return got;
}

#define CHECK_ANSWER(got, expected)                                           \
    do {                                                                      \
        const char *check_got = (got);                                        \
        if (strcmp(check_got, expected) != 0) {                               \
            fprintf(stderr, "%s\nis not\n%s\n", check_got, expected);         \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

#define BASIC_ANSWER "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"
#define SHA256_ANSWER                                                         \
    "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", "           \
    "nonce=\"" NONCE "\", opaque=\"" OPAQUE "\", algorithm=SHA-256, "         \
    "uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"" CNONCE "\", " \
    "response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856c" \
    "b6c1\""
#define MD5_ANSWER                                                            \
    "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", "           \
    "nonce=\"" NONCE "\", opaque=\"" OPAQUE "\", algorithm=MD5, "             \
    "uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"" CNONCE "\", " \
    "response=\"8ca523f5e9506fed4657c9700eebdbec\""

TEST(the_strongest_challenge_is_answered)
{
    /* RFC 7616 §3.9.1. */
    CHECK_ANSWER(answer(&MUFASA, SHA256_CHALLENGE, MD5_CHALLENGE),
                 SHA256_ANSWER);
    CHECK_ANSWER(answer(&MUFASA, MD5_CHALLENGE, SHA256_CHALLENGE),
                 SHA256_ANSWER);
    CHECK_ANSWER(
        answer(&MUFASA, MD5_CHALLENGE ", " SHA256_CHALLENGE, "Basic realm=x"),
        SHA256_ANSWER);
    CHECK_ANSWER(answer(&MUFASA, "Basic realm=x", MD5_CHALLENGE), MD5_ANSWER);
    CHECK_ANSWER(answer(&MUFASA, "Basic realm=x, " MD5_CHALLENGE, ""),
                 MD5_ANSWER);
    CHECK_ANSWER(answer(&MUFASA, "Negotiate, basic realm=x", ""),
                 BASIC_ANSWER);
    CHECK_ANSWER(answer(&MUFASA, "", "Basic"), BASIC_ANSWER);
}

TEST(the_first_of_equals_is_answered)
{
    const char *got = answer(&MUFASA, "Digest realm=a, nonce=b, qop=\"auth\"",
                             "Digest realm=c, nonce=d, qop=\"auth\"");
    CHECK(strstr(got, "realm=\"a\", nonce=\"b\"") != NULL);
    CHECK(strstr(got, "algorithm") == NULL); /* it was not offered */
    CHECK(strstr(got, "opaque") == NULL);
}

TEST(what_is_not_supported_is_passed_over)
{
    static const char *const PASSED[] = {
        "",
        "Negotiate",
        "Bearer realm=x",
        "Digest",
        "Digest realm=x, nonce=y",
        "Digest realm=x, nonce=y, qop=auth-int",
        "Digest realm=x, nonce=y, qop=\"auth\\-int, au\\th\"",
        "Digest nonce=y, qop=auth",
        "Digest realm=x, qop=auth",
        "Digest realm=x, nonce=y, qop=auth, algorithm=MD5-sess",
        "Digest realm=x, nonce=y, qop=auth, algorithm=SHA-256-sess",
        "Digest realm=x, nonce=y, qop=auth, algorithm=SHA-512-256",
        "Digest realm=x, nonce=y, qop=auth, algorithm=x, algorithm=MD5",
        "Digest realm=x; nonce=y, Basic realm=x",
    };
    for (size_t i = 0; i < sizeof(PASSED) / sizeof(PASSED[0]); i++) {
        CHECK_ANSWER(answer(&MUFASA, PASSED[i], ""), "! 401");
        CHECK_ANSWER(answer(&MUFASA, PASSED[i], "Basic realm=x"),
                     BASIC_ANSWER);
        CHECK_ANSWER(answer(&MUFASA, SHA256_CHALLENGE, PASSED[i]),
                     SHA256_ANSWER);
    }
    /* What stood in front of a mistake counts. */
    CHECK_ANSWER(answer(&MUFASA, "Basic realm=x, D a=;", ""), BASIC_ANSWER);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_auth_answer(NULL, 0, &MUFASA, &out, &err), TWS_REFUSED);
    CHECK_INT(err.http_status, 401);
    tws_buffer_release(&out);
}

/* Reads an answer as a server does, and verifies it. */
static void
check_read(const char *value, const struct tws_auth_client *client,
           const char *realm)
{
    struct tws_auth auth;
    struct tws_digest_credentials credentials;
    struct tws_error err;
    struct tws_auth_param own = {.value = text(realm)};
    char ha1[TWS_DIGEST_HEX_MAX];
    bool match = false;
    CHECK_INT(tws_auth_parse(text(value), &auth, &err), TWS_OK);
    CHECK_INT(tws_digest_read(&auth, text(realm), client->method,
                              client->target, &credentials, &err),
              TWS_OK);
    CHECK_INT(credentials.nc, client->nonce_count);
    char name[256];
    size_t length = 0;
    CHECK_INT(tws_digest_username(&credentials, name, &length, &err), TWS_OK);
    CHECK(tws_span_equal((struct tws_span){name, length}, client->user));
    enum tws_digest_algorithm algorithm = credentials.request.algorithm;
    CHECK_INT(tws_digest_ha1(algorithm, client->user, &own, client->password,
                             ha1, &err),
              TWS_OK);
    CHECK_INT(tws_digest_verify(
                  &credentials,
                  (struct tws_span){ha1, tws_digest_hex_length(algorithm)},
                  &match, &err),
              TWS_OK);
    CHECK(match);
}

TEST(names_are_quoted_and_read_back)
{
    struct tws_auth_client client = MUFASA;
    client.user = TWS_SPAN("a\"b\\c, d=e:f");
    client.password = TWS_SPAN("\"\\\" \xc3\xa4");
    client.target = TWS_SPAN("/x\"y\\z?q=1");
    client.nonce_count = 0x1234abcd;
    const char *got =
        answer(&client, "Digest realm=\"r\\\"\\\\x\", nonce=n, qop=auth", "");
    CHECK(strstr(got, "username=\"a\\\"b\\\\c, d=e:f\", ") != NULL);
    CHECK(strstr(got, "realm=\"r\\\"\\\\x\", nonce=\"n\", ") != NULL);
    CHECK(strstr(got, "uri=\"/x\\\"y\\\\z?q=1\", ") != NULL);
    CHECK(strstr(got, "nc=1234abcd, ") != NULL);
    check_read(got, &client, "r\"\\x");
}

TEST(names_beyond_ascii_go_as_the_challenge_says)
{
    struct tws_auth_client client = MUFASA;
    client.user = TWS_SPAN("J\xc3\xa4s\xc3\xb8n *'%Doe");
    const char *got = answer(
        &client,
        "Digest realm=x, nonce=n, qop=auth, algorithm=SHA-256, charset=utf-8",
        "");
    CHECK(strstr(got, "Digest username*=UTF-8''J%C3%A4s%C3%B8n%20%2A%27%25Doe"
                      ", ")
          != NULL);
    check_read(got, &client, "x");
    got = answer(&client, "Digest realm=x, nonce=n, qop=auth", "");
    CHECK(strstr(got, "username=\"J\xc3\xa4s\xc3\xb8n *'%Doe\"") != NULL);
    check_read(got, &client, "x");
    got = answer(&MUFASA, "Digest realm=x, nonce=n, qop=auth, charset=UTF-8",
                 "");
    CHECK(strstr(got, "username=\"Mufasa\"") != NULL);
    check_read(got, &MUFASA, "x");
    CHECK_ANSWER(answer(&client, "Basic realm=x, charset=\"UTF-8\"", ""),
                 "Basic SsOkc8O4biAqJyVEb2U6Q2lyY2xlIG9mIExpZmU=");
}

TEST(a_name_is_hashed_where_that_is_asked_for)
{
    struct tws_auth_client client = MUFASA;
    client.user = TWS_SPAN("J\xc3\xa4s\xc3\xb8n Doe");
    const char *got =
        answer(&client,
               "Digest realm=\"api@example.org\", nonce=n, qop=auth, "
               "algorithm=SHA-256, charset=UTF-8, userhash=true",
               "");
    CHECK(strstr(got, "Digest username=\"5a1a8a47df5c298551b9b42ba9b05835174"
                      "a5bd7d511ff7fe9191d8e946fc4e7\", ")
          != NULL);
    CHECK(strstr(got, ", userhash=true") != NULL);
    got = answer(&MUFASA, "Digest realm=x, nonce=n, qop=auth, userhash=false",
                 "");
    CHECK(strstr(got, "username=\"Mufasa\"") != NULL);
    CHECK(strstr(got, "userhash") == NULL);
}

TEST(the_challenge_of_our_server_is_answered)
{
    for (int i = 0; i < TWS_DIGEST_ALGORITHMS; i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        CHECK_INT(tws_digest_write_challenge(
                      &out, (enum tws_digest_algorithm)i, TWS_SPAN("my place"),
                      TWS_SPAN("0123abcd"), i > 0, &err),
                  TWS_OK);
        CHECK_INT(tws_buffer_append(&out, "", 1), TWS_OK);
        const char *challenge = (const char *)tws_buffer_data(&out);
        CHECK(strcmp(challenge,
                     i == TWS_DIGEST_MD5
                         ? "Digest realm=\"my place\", qop=\"auth\", "
                           "algorithm=MD5, nonce=\"0123abcd\", charset=UTF-8"
                         : "Digest realm=\"my place\", qop=\"auth\", "
                           "algorithm=SHA-256, nonce=\"0123abcd\", "
                           "charset=UTF-8, stale=true")
              == 0);
        check_read(answer(&MUFASA, challenge, ""), &MUFASA, "my place");
        tws_buffer_release(&out);
    }
}

TEST(what_cannot_be_sent_is_refused)
{
    static const struct tws_span CONTROL = {"a\nb", 3};
    struct tws_auth_client client = MUFASA;
    client.user = CONTROL;
    CHECK_ANSWER(answer(&client, MD5_CHALLENGE, ""), "! 0");
    client = MUFASA;
    client.password = CONTROL;
    CHECK_ANSWER(answer(&client, MD5_CHALLENGE, ""), "! 0");
    CHECK_ANSWER(answer(&client, "Basic", ""), "! 0");
    client = MUFASA;
    client.user = TWS_SPAN("a:b");
    CHECK_ANSWER(answer(&client, "Basic", ""), "! 0");
    CHECK(strncmp(answer(&client, MD5_CHALLENGE, ""), "Digest ", 7) == 0);
    client = MUFASA;
    client.target = TWS_SPAN("/a b");
    CHECK_ANSWER(answer(&client, MD5_CHALLENGE, ""), "! 0");
    static const char *const CNONCES[] = {"", "a\"b", "a\\b", "a b", "\xe4"};
    for (size_t i = 0; i < sizeof(CNONCES) / sizeof(CNONCES[0]); i++) {
        client = MUFASA;
        client.cnonce = text(CNONCES[i]);
        CHECK_ANSWER(answer(&client, MD5_CHALLENGE, ""), "! 0");
    }
    client = MUFASA;
    client.nonce_count = 0;
    CHECK_ANSWER(answer(&client, MD5_CHALLENGE, ""), "! 0");
}

TEST(without_memory_nothing_is_written)
{
    static const char *const CHALLENGES[] = {SHA256_CHALLENGE, "Basic"};
    for (size_t i = 0; i < 2; i++) {
        struct tws_span challenge = text(CHALLENGES[i]);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        CHECK_INT(tws_buffer_append(&out, "before", 6), TWS_OK);
        /* Of the 256 bytes that there are, some are left for Basic. */
        CHECK_INT(tws_buffer_append(&out, pattern, 230), TWS_OK);
        allocations_left = 0;
        CHECK_INT(tws_auth_answer(&challenge, 1, &MUFASA, &out, &err),
                  TWS_NOMEM);
        allocations_left = -1;
        CHECK_INT(tws_buffer_length(&out), 236);
        tws_buffer_release(&out);
    }
}

static bool
stale(const char *first, const char *second)
{
    const struct tws_span challenges[] = {text(first), text(second)};
    return tws_auth_is_stale(challenges, 2);
}

TEST(stale_is_told_by_the_challenge_that_counts)
{
    CHECK(stale(SHA256_CHALLENGE ", stale=true", ""));
    CHECK(stale(SHA256_CHALLENGE ", stale=\"TRUE\"", MD5_CHALLENGE));
    CHECK(stale("Basic realm=x", MD5_CHALLENGE ", stale=true"));
    CHECK(!stale(SHA256_CHALLENGE, MD5_CHALLENGE ", stale=true"));
    CHECK(!stale(SHA256_CHALLENGE ", stale=false", ""));
    CHECK(!stale("Basic realm=x, stale=true", ""));
    CHECK(!stale("", ""));
}

RUN(T(the_strongest_challenge_is_answered), T(the_first_of_equals_is_answered),
    T(what_is_not_supported_is_passed_over), T(names_are_quoted_and_read_back),
    T(names_beyond_ascii_go_as_the_challenge_says),
    T(a_name_is_hashed_where_that_is_asked_for),
    T(the_challenge_of_our_server_is_answered),
    T(what_cannot_be_sent_is_refused), T(without_memory_nothing_is_written),
    T(stale_is_told_by_the_challenge_that_counts))
