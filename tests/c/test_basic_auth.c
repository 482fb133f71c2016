#include "scarce_buffers.h"

#include "guard.h"
#include "harness.h"
#include "protocol/basic_auth.h"

/* What `digits` holds, as "user|password", or "!" where it is refused; both
 * the input and the output end at guard pages. */
static const char *
decoded(const char *digits)
{
    static char plain[256];
    struct guard in = guard_copy(digits, strlen(digits));
    struct tws_span token68 = {.data = (const char *)in.data,
                               .length = strlen(digits)};
    /* As long as the digits, so longer than what is written. */
    struct guard out = guard_copy(digits, strlen(digits));
    char *room = (char *)out.data + strlen(digits) - tws_basic_room(token68);
    struct tws_span user;
    struct tws_span password;
    struct tws_error err = {0};
    enum tws_status status =
        tws_basic_decode(token68, room, &user, &password, &err);
    if (status == TWS_OK) {
        (void)snprintf(plain, sizeof(plain), "%.*s|%.*s", (int)user.length,
                       user.data, (int)password.length, password.data);
    }
    else {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(err.http_status, 401);
        CHECK(strstr(err.reason, "Basic") != NULL);
        (void)snprintf(plain, sizeof(plain), "!");
    }
    guard_free(&out);
    guard_free(&in);
    return plain;
}

#define CHECK_DECODED(digits, expected)                                       \
    do {                                                                      \
        const char *check_got = decoded(digits);                              \
        if (strcmp(check_got, expected) != 0) {                               \
            fprintf(stderr, "%s is \"%s\"\n", #digits, check_got);            \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

TEST(examples_of_the_rfc)
{
    /* RFC 7617 §2 and §2.1. */
    CHECK_DECODED("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin|open sesame");
    CHECK_DECODED("dGVzdDoxMjPCow==", "test|123\xc2\xa3");
}

TEST(the_first_colon_ends_the_user_name)
{
    CHECK_DECODED("YTpiOmM6", "a|b:c:");
    CHECK_DECODED("Og==", "|");
    CHECK_DECODED("Ojo=", "|:");
    CHECK_DECODED("YTo=", "a|");
    CHECK_DECODED("OmE=", "|a");
    CHECK_DECODED("YWJj", "!");
    CHECK_DECODED("YQ==", "!");
}

TEST(base64_has_one_form)
{
    CHECK_DECODED("", "!");
    CHECK_DECODED("YTpi", "a|b");
    CHECK_DECODED("YTo", "!");
    CHECK_DECODED("YTo==", "!");
    CHECK_DECODED("YTo= ", "!");
    CHECK_DECODED("YTo=YTo=", "!");
    CHECK_DECODED("====", "!");
    CHECK_DECODED("Y===", "!");
    CHECK_DECODED("YT=i", "!");
    CHECK_DECODED("YTp=", "!"); /* bits that mean nothing are not zero */
    CHECK_DECODED("YTr=", "!");
    CHECK_DECODED("Oh==", "!");
    CHECK_DECODED("YTp_", "!");
    CHECK_DECODED("YT-i", "!");
    CHECK_DECODED("YT\npi", "!");
    CHECK_DECODED("\n\n\nY", "!");
    CHECK_DECODED("YTp\xff", "!");
}

TEST(what_is_no_text_is_refused)
{
    CHECK_DECODED("YTpiCg==", "!"); /* a:b\n */
    CHECK_DECODED("AGE6Yg==", "!"); /* \0a:b */
    CHECK_DECODED("YTpif38=", "!"); /* a:b\x7f\x7f */
    CHECK_DECODED("SuRzOng=", "!"); /* J\xe4s:x */
    CHECK_DECODED("SsOkczp4", "J\xc3\xa4s|x");
}

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

static void
check_written(const char *user, const char *password, const char *expected)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_buffer_append(&out, "before ", 7), TWS_OK);
    CHECK_INT(tws_basic_write(&out, text(user), text(password), &err), TWS_OK);
    struct tws_span got = {.data = (const char *)tws_buffer_data(&out) + 7,
                           .length = tws_buffer_length(&out) - 7};
    CHECK(tws_span_equal(got, text(expected)));
    tws_span_advance(&got, 6);
    char room[256];
    struct tws_span name;
    struct tws_span word;
    CHECK(tws_basic_room(got) <= sizeof(room));
    CHECK_INT(tws_basic_decode(got, room, &name, &word, &err), TWS_OK);
    CHECK(tws_span_equal(name, text(user)));
    CHECK(tws_span_equal(word, text(password)));
    tws_buffer_release(&out);
}

TEST(what_is_written_is_read_back)
{
    check_written("Aladdin", "open sesame",
                  "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    check_written("test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow==");
    check_written("", "", "Basic Og==");
    check_written("a", "", "Basic YTo=");
    check_written("", "a:b", "Basic OmE6Yg==");
}

TEST(what_cannot_be_sent_is_not_written)
{
    static const char *const WRONG[][2] = {
        {"a:b", "c"},   {"a\n", "b"}, {"a", "b\n"},  {"a\xe4", "b"},
        {"a", "b\xe4"}, {"\x7f", ""}, {"a\tb", "c"},
    };
    for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err = {.http_status = 1};
        CHECK_INT(
            tws_basic_write(&out, text(WRONG[i][0]), text(WRONG[i][1]), &err),
            TWS_REFUSED);
        CHECK_INT(err.http_status, 0);
        CHECK_INT(tws_buffer_length(&out), 0);
        tws_buffer_release(&out);
    }
}

TEST(a_challenge_names_realm_and_charset)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_basic_write_challenge(&out, TWS_SPAN("my place"), &err),
              TWS_OK);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                "Basic realm=\"my place\", charset=\"UTF-8\"");
    tws_buffer_release(&out);
}

TEST(without_memory_nothing_is_written)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    static const char filler[240];
    CHECK_INT(tws_buffer_append(&out, filler, sizeof(filler)), TWS_OK);
    allocations_left = 0;
    CHECK_INT(tws_basic_write_challenge(&out, TWS_SPAN("x"), &err), TWS_NOMEM);
    CHECK_INT(tws_buffer_length(&out), sizeof(filler));
    CHECK_INT(tws_basic_write(&out, TWS_SPAN("Aladdin"),
                              TWS_SPAN("open sesame"), &err),
              TWS_NOMEM);
    CHECK_INT(tws_buffer_length(&out), sizeof(filler));
    allocations_left = -1;
    tws_buffer_release(&out);
}

RUN(T(examples_of_the_rfc), T(the_first_colon_ends_the_user_name),
    T(base64_has_one_form), T(what_is_no_text_is_refused),
    T(what_is_written_is_read_back), T(what_cannot_be_sent_is_not_written),
    T(a_challenge_names_realm_and_charset),
    T(without_memory_nothing_is_written))
