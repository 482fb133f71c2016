#include "guard.h"
#include "harness.h"
#include "protocol/digest_auth.h"

#define MD5_HA1 "3d78807defe7de2157e2b0b6573a855f"
#define SHA256_HA1                                                            \
    "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
#define MD5_RESPONSE "8ca523f5e9506fed4657c9700eebdbec"
#define SHA256_RESPONSE                                                       \
    "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
#define NONCE "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
#define CNONCE "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
#define REALM "http-auth@example.org"
#define TARGET "/dir/index.html"

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

static struct tws_auth_param
quoted(const char *value)
{
    return (struct tws_auth_param){
        .value = text(value),
        .quoted_pairs = strchr(value, '\\') != NULL,
    };
}

/* Algorithms ------------------------------------------------------------ */

TEST(algorithms_have_names)
{
    enum tws_digest_algorithm algorithm = TWS_DIGEST_SHA256;
    CHECK(tws_digest_by_name(TWS_SPAN("md5"), &algorithm));
    CHECK_INT(algorithm, TWS_DIGEST_MD5);
    CHECK(tws_digest_by_name(TWS_SPAN("SHA-256"), &algorithm));
    CHECK_INT(algorithm, TWS_DIGEST_SHA256);
    CHECK(!tws_digest_by_name(TWS_SPAN("MD5-sess"), &algorithm));
    CHECK(!tws_digest_by_name(TWS_SPAN("SHA-256-sess"), &algorithm));
    CHECK(!tws_digest_by_name(TWS_SPAN("SHA-512-256"), &algorithm));
    CHECK(!tws_digest_by_name(TWS_SPAN(""), &algorithm));
    CHECK_INT(algorithm, TWS_DIGEST_SHA256);
    struct tws_span name = tws_digest_name(TWS_DIGEST_MD5);
    CHECK_BYTES(name.data, name.length, "MD5");
    name = tws_digest_name(TWS_DIGEST_SHA256);
    CHECK_BYTES(name.data, name.length, "SHA-256");
}

TEST(a_digest_is_lower_case_hexadecimal)
{
    CHECK(tws_digest_is_hex(TWS_DIGEST_MD5, TWS_SPAN(MD5_HA1)));
    CHECK(tws_digest_is_hex(TWS_DIGEST_SHA256, TWS_SPAN(SHA256_HA1)));
    CHECK(!tws_digest_is_hex(TWS_DIGEST_MD5, TWS_SPAN(SHA256_HA1)));
    CHECK(!tws_digest_is_hex(TWS_DIGEST_SHA256, TWS_SPAN(MD5_HA1)));
    CHECK(!tws_digest_is_hex(TWS_DIGEST_MD5,
                             TWS_SPAN("3D78807DEFE7DE2157E2B0B6573A855F")));
    CHECK(!tws_digest_is_hex(TWS_DIGEST_MD5,
                             TWS_SPAN("3g78807defe7de2157e2b0b6573a855f")));
    CHECK(!tws_digest_is_hex(TWS_DIGEST_MD5, TWS_SPAN("")));
}

static void
check_vector(enum tws_digest_algorithm algorithm, const char *ha1,
             const char *response)
{
    struct tws_error err;
    struct tws_auth_param realm = quoted(REALM);
    size_t length = tws_digest_hex_length(algorithm);
    char got[TWS_DIGEST_HEX_MAX + 1];
    got[length] = '!'; /* is not written to */
    CHECK_INT(tws_digest_ha1(algorithm, TWS_SPAN("Mufasa"), &realm,
                             TWS_SPAN("Circle of Life"), got, &err),
              TWS_OK);
    CHECK(memcmp(got, ha1, length) == 0 && got[length] == '!');
    struct tws_digest_request request = {
        .algorithm = algorithm,
        .nonce = quoted(NONCE),
        .nc = TWS_SPAN("00000001"),
        .cnonce = TWS_SPAN(CNONCE),
        .method = TWS_SPAN("GET"),
        .uri = TWS_SPAN(TARGET),
    };
    CHECK_INT(tws_digest_response(&request, text(ha1), got, &err), TWS_OK);
    CHECK(memcmp(got, response, length) == 0 && got[length] == '!');
}

TEST(example_of_the_rfc)
{
    /* RFC 7616 §3.9.1. */
    check_vector(TWS_DIGEST_MD5, MD5_HA1, MD5_RESPONSE);
    check_vector(TWS_DIGEST_SHA256, SHA256_HA1, SHA256_RESPONSE);
}

TEST(values_are_hashed_unquoted)
{
    static const char *const HA1[] = {
        "0136bb24f39a64d02c2ff2e4df18e279",
        "f1bb116a80e19e54857847a2be9aa3d498900ac54a964809a344cca40a0457b6",
    };
    static const char *const RESPONSES[] = {
        "8fff5b996e51146452ec1bd09c0a3273",
        "61e113f4f469191267352c19089b920a09123015f6dbe6cfa168ec38a5a40eff",
    };
    struct tws_auth_param realm = quoted("r\\\"\\\\x");
    for (int i = 0; i < TWS_DIGEST_ALGORITHMS; i++) {
        enum tws_digest_algorithm algorithm = (enum tws_digest_algorithm)i;
        struct tws_error err;
        char got[TWS_DIGEST_HEX_MAX];
        CHECK_INT(tws_digest_ha1(algorithm, TWS_SPAN("a\"b\\c"), &realm,
                                 TWS_SPAN("p"), got, &err),
                  TWS_OK);
        CHECK(memcmp(got, HA1[i], strlen(HA1[i])) == 0);
        struct tws_digest_request request = {
            .algorithm = algorithm,
            .nonce = quoted("\\n\\\\\\q"),
            .nc = TWS_SPAN("0000000a"),
            .cnonce = TWS_SPAN("c"),
            .method = TWS_SPAN("GET"),
            .uri = TWS_SPAN("/x\"y\\z"),
        };
        CHECK_INT(tws_digest_response(&request, text(HA1[i]), got, &err),
                  TWS_OK);
        CHECK(memcmp(got, RESPONSES[i], strlen(RESPONSES[i])) == 0);
    }
}

TEST(a_user_name_may_be_hashed)
{
    struct tws_auth_param realm = quoted("api@example.org");
    struct tws_error err;
    char got[TWS_DIGEST_HEX_MAX];
    CHECK_INT(tws_digest_userhash(TWS_DIGEST_MD5,
                                  TWS_SPAN("J\xc3\xa4s\xc3\xb8n Doe"), &realm,
                                  got, &err),
              TWS_OK);
    CHECK_BYTES(got, 32, "2e063fa2c54dea1c36808b7a6e3b14c9");
    CHECK_INT(tws_digest_userhash(TWS_DIGEST_SHA256,
                                  TWS_SPAN("J\xc3\xa4s\xc3\xb8n Doe"), &realm,
                                  got, &err),
              TWS_OK);
    CHECK_BYTES(
        got, 64,
        "5a1a8a47df5c298551b9b42ba9b05835174a5bd7d511ff7fe9191d8e946fc4e7");
}

/* Reading credentials --------------------------------------------------- */

/* What a good client sends, in parts that a test may replace. */
enum part {
    USERNAME,
    THE_REALM,
    THE_NONCE,
    URI,
    QOP,
    NC,
    THE_CNONCE,
    ALGORITHM,
    RESPONSE,
    PARTS
};
static const char *const GOOD[PARTS] = {
    [USERNAME] = "username=\"Mufasa\"",
    [THE_REALM] = "realm=\"" REALM "\"",
    [THE_NONCE] = "nonce=\"" NONCE "\"",
    [URI] = "uri=\"" TARGET "\"",
    [QOP] = "qop=auth",
    [NC] = "nc=00000001",
    [THE_CNONCE] = "cnonce=\"" CNONCE "\"",
    [ALGORITHM] = "algorithm=SHA-256",
    [RESPONSE] = "response=\"" SHA256_RESPONSE "\"",
};

struct read {
    struct guard guard;
    struct tws_digest_credentials credentials;
    struct tws_error err;
    enum tws_status status;
};

/* Reads credentials that end at a guard page; `part` is replaced by `by`,
 * which may be empty. */
static void
read_with(struct read *read, enum part part, const char *by)
{
    char value[1024] = "Digest ";
    size_t length = 7;
    for (int i = 0; i < PARTS; i++) {
        length +=
            (size_t)snprintf(value + length, sizeof(value) - length, "%s%s",
                             i > 0 ? ", " : "", i == (int)part ? by : GOOD[i]);
    }
    struct tws_auth auth;
    read->guard = guard_copy(value, length);
    read->err = (struct tws_error){0};
    CHECK_INT(tws_auth_parse(
                  (struct tws_span){.data = (const char *)read->guard.data,
                                    .length = length},
                  &auth, &read->err),
              TWS_OK);
    read->status =
        tws_digest_read(&auth, TWS_SPAN(REALM), TWS_SPAN("GET"),
                        TWS_SPAN(TARGET), &read->credentials, &read->err);
}

static bool
matches(struct read *read, const char *ha1)
{
    bool match = false;
    CHECK_INT(read->status, TWS_OK);
    CHECK_INT(
        tws_digest_verify(&read->credentials, text(ha1), &match, &read->err),
        TWS_OK);
    return match;
}

TEST(good_credentials_are_verified)
{
    struct read read;
    read_with(&read, PARTS, "");
    CHECK_INT(read.credentials.nc, 1);
    CHECK(!read.credentials.extended);
    CHECK(matches(&read, SHA256_HA1));
    CHECK(!matches(&read,
                   "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b"
                   "4794233"));
    guard_free(&read.guard);
    read_with(&read, ALGORITHM, "algorithm=md5");
    CHECK(!matches(&read, MD5_HA1)); /* the response is too long */
    guard_free(&read.guard);
    read_with(&read, RESPONSE, "response=\"" MD5_RESPONSE "\"");
    CHECK(!matches(&read, SHA256_HA1));
    guard_free(&read.guard);
    /* Quoted or not, and in whatever case. */
    read_with(&read, QOP, "QOP=\"AUTH\"");
    CHECK(matches(&read, SHA256_HA1));
    guard_free(&read.guard);
    read_with(&read, NC, "nc=\"00000001\", userhash=false");
    CHECK(matches(&read, SHA256_HA1));
    guard_free(&read.guard);
    read_with(&read, URI, "uri=\"/d\\ir/index.html\"");
    CHECK(matches(&read, SHA256_HA1));
    guard_free(&read.guard);
}

TEST(without_an_algorithm_it_is_md5)
{
    struct read read;
    read_with(&read, ALGORITHM, "");
    CHECK_INT(read.credentials.request.algorithm, TWS_DIGEST_MD5);
    read.credentials.response = TWS_SPAN(MD5_RESPONSE);
    CHECK(matches(&read, MD5_HA1));
    guard_free(&read.guard);
}

TEST(each_byte_of_a_response_counts)
{
    struct read read;
    char response[] = SHA256_RESPONSE;
    read_with(&read, PARTS, "");
    read.credentials.response.data = response;
    for (size_t i = 0; i < sizeof(response) - 1; i++) {
        response[i] ^= 1;
        CHECK(!matches(&read, SHA256_HA1));
        response[i] ^= 1;
        read.credentials.response.length = i;
        CHECK(!matches(&read, SHA256_HA1));
        read.credentials.response.length = sizeof(response) - 1;
    }
    CHECK(matches(&read, SHA256_HA1));
    guard_free(&read.guard);
    read_with(&read, RESPONSE,
              "response=\"753927FA0E85D155564E2E272A28D1802CA10DAF449679469"
              "7CF8DB5856CB6C1\"");
    CHECK(!matches(&read, SHA256_HA1));
    guard_free(&read.guard);
}

TEST(what_was_signed_counts)
{
    static const struct {
        enum part part;
        const char *by;
    } CHANGED[] = {
        {THE_NONCE, "nonce=\"7ypf\""},
        {NC, "nc=00000002"},
        {THE_CNONCE, "cnonce=x"},
        {THE_CNONCE, "cnonce=\"\""},
    };
    for (size_t i = 0; i < sizeof(CHANGED) / sizeof(CHANGED[0]); i++) {
        struct read read;
        read_with(&read, CHANGED[i].part, CHANGED[i].by);
        CHECK(!matches(&read, SHA256_HA1));
        guard_free(&read.guard);
    }
    struct read read;
    read_with(&read, PARTS, "");
    read.credentials.request.method = TWS_SPAN("HEAD");
    CHECK(!matches(&read, SHA256_HA1));
    guard_free(&read.guard);
}

static void
check_refused(enum part part, const char *by, uint16_t http_status)
{
    struct read read;
    read_with(&read, part, by);
    if (read.status != TWS_REFUSED || read.err.http_status != http_status) {
        fprintf(stderr, "%s: status %d, %u: %s\n", by, (int)read.status,
                read.err.http_status, read.err.reason);
        CHECK(false);
    }
    CHECK(strstr(read.err.reason, "Digest") != NULL);
    CHECK(strstr(read.err.reason, "SECRET") == NULL);
    guard_free(&read.guard);
}

TEST(improper_parameters_are_bad_requests)
{
    for (int i = 0; i < PARTS; i++) {
        if (i != ALGORITHM) {
            check_refused((enum part)i, "", 400);
        }
    }
    check_refused(NC, "nc=0000001", 400);
    check_refused(NC, "nc=000000001", 400);
    check_refused(NC, "nc=0000000A", 400);
    check_refused(NC, "nc=\"0x000001\"", 400);
    check_refused(NC, "nc=\" 0000001\"", 400);
    check_refused(NC, "nc=\"-0000001\"", 400);
    check_refused(NC, "nc=00000000", 400);
    check_refused(NC, "nc=\"\"", 400);
    check_refused(QOP, "qop=auth-int", 400);
    check_refused(QOP, "qop=\"auth,auth-int\"", 400);
    check_refused(QOP, "qop=\"\"", 400);
    check_refused(URI, "uri=\"/dir/index.htm\"", 400);
    check_refused(URI, "uri=\"/SECRET?\"", 400);
    check_refused(URI, "uri=\"\"", 400);
    check_refused(THE_NONCE, "nonce=\"a\\b\"", 400);
    check_refused(THE_CNONCE, "cnonce=\"a\\b\"", 400);
    check_refused(RESPONSE, "response=\"\\7\"", 400);
    check_refused(USERNAME, "username=a, username*=UTF-8''a", 400);
    check_refused(USERNAME, "username=SECRET, userhash=true", 400);
    check_refused(USERNAME, "username=SECRET, userhash=maybe", 400);
}

TEST(credentials_for_something_else_are_unauthorized)
{
    check_refused(THE_REALM, "realm=\"another\"", 401);
    check_refused(THE_REALM, "realm=\"\"", 401);
    check_refused(THE_REALM, "realm=\"HTTP-AUTH@example.org\"", 401);
    check_refused(ALGORITHM, "algorithm=SHA-256-sess", 401);
    check_refused(ALGORITHM, "algorithm=MD5-sess", 401);
    check_refused(ALGORITHM, "algorithm=SHA-512-256", 401);
    check_refused(ALGORITHM, "algorithm=\"\"", 401);
}

TEST(a_count_is_read_whole)
{
    struct read read;
    read_with(&read, NC, "nc=89abcdef");
    CHECK_INT(read.status, TWS_OK);
    CHECK_INT(read.credentials.nc, 0x89abcdef);
    guard_free(&read.guard);
    read_with(&read, NC, "nc=ffffffff");
    CHECK_INT(read.credentials.nc, 0xffffffff);
    guard_free(&read.guard);
}

/* User names ------------------------------------------------------------ */

static const char *
name_of(const char *part)
{
    static char name[256];
    struct read read;
    size_t length = 0;
    read_with(&read, USERNAME, part);
    CHECK_INT(read.status, TWS_OK);
    /* Decoded to where a guard page follows. */
    size_t room = read.credentials.username.value.length;
    struct guard out = guard_copy(name, room);
    enum tws_status status = tws_digest_username(
        &read.credentials, (char *)out.data, &length, &read.err);
    if (status == TWS_OK) {
        CHECK(length <= room && length < sizeof(name));
        memcpy(name, out.data, length);
        name[length] = '\0';
    }
    else {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(read.err.http_status, 400);
        (void)snprintf(name, sizeof(name), "!");
    }
    guard_free(&out);
    guard_free(&read.guard);
    return name;
}

TEST(user_names_are_decoded)
{
    CHECK(strcmp(name_of("username=\"Mufasa\""), "Mufasa") == 0);
    CHECK(strcmp(name_of("username=Mufasa"), "Mufasa") == 0);
    CHECK(strcmp(name_of("username=\"\""), "") == 0);
    CHECK(strcmp(name_of("username=\"a\\\"b\\\\c:d\""), "a\"b\\c:d") == 0);
    CHECK(strcmp(name_of("username=\"J\xc3\xa4s\""), "J\xc3\xa4s") == 0);
    CHECK(strcmp(name_of("username=\"J\xe4s\""), "!") == 0);
    CHECK(strcmp(name_of("username=\"a\tb\""), "!") == 0);
    /* RFC 7616 §3.9.2. */
    CHECK(strcmp(name_of("username*=UTF-8''J%C3%A4s%C3%B8n%20Doe"),
                 "J\xc3\xa4s\xc3\xb8n Doe")
          == 0);
    CHECK(strcmp(name_of("username*=utf-8'en'a%c3%a4"), "a\xc3\xa4") == 0);
    CHECK(strcmp(name_of("username*=UTF-8''"), "") == 0);
    CHECK(strcmp(name_of("username*=\"UTF-8''a%20b\""), "a b") == 0);
}

TEST(broken_notation_of_a_user_name_is_refused)
{
    static const char *const BROKEN[] = {
        "username*=Mufasa",
        "username*=UTF-8",
        "username*=UTF-8'",
        "username*=UTF-8'en",
        "username*=ISO-8859-1''J%E4s",
        "username*=UTF-8''%",
        "username*=UTF-8''%4",
        "username*=UTF-8''a%4",
        "username*=UTF-8''%4g",
        "username*=UTF-8''%g4",
        "username*=UTF-8''%00",
        "username*=UTF-8''%0A",
        "username*=UTF-8''%7f",
        "username*=UTF-8''%E4",
        "username*=UTF-8''%C0%AF",
        "username*=UTF-8''a*b",
        "username*=UTF-8''a'b",
        "username*=\"UTF-8''a b\"",
        "username*=\"UTF-8''a\\b\"",
        "username*=\"\"",
    };
    for (size_t i = 0; i < sizeof(BROKEN) / sizeof(BROKEN[0]); i++) {
        if (strcmp(name_of(BROKEN[i]), "!") != 0) {
            fprintf(stderr, "%s was taken\n", BROKEN[i]);
            CHECK(false);
        }
    }
}

RUN(T(algorithms_have_names), T(a_digest_is_lower_case_hexadecimal),
    T(example_of_the_rfc), T(values_are_hashed_unquoted),
    T(a_user_name_may_be_hashed), T(good_credentials_are_verified),
    T(without_an_algorithm_it_is_md5), T(each_byte_of_a_response_counts),
    T(what_was_signed_counts), T(improper_parameters_are_bad_requests),
    T(credentials_for_something_else_are_unauthorized),
    T(a_count_is_read_whole), T(user_names_are_decoded),
    T(broken_notation_of_a_user_name_is_refused))
