#include "guard.h"
#include "harness.h"
#include "protocol/digest.h"

TEST(sample_key_gives_the_sample_accept)
{
    /* RFC 6455 §1.3. */
    struct guard guard = guard_copy("dGhlIHNhbXBsZSBub25jZQ==", 24);
    struct tws_span key = {.data = (const char *)guard.data, .length = 24};
    char accept[TWS_ACCEPT_LENGTH];
    struct tws_error err;
    CHECK_INT(tws_accept_key(key, accept, &err), TWS_OK);
    CHECK_BYTES(accept, sizeof(accept), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    guard_free(&guard);
}

TEST(accept_writes_no_byte_too_many)
{
    char accept[TWS_ACCEPT_LENGTH + 1];
    accept[TWS_ACCEPT_LENGTH] = '!';
    struct tws_error err;
    CHECK_INT(tws_accept_key(TWS_SPAN(""), accept, &err), TWS_OK);
    CHECK_BYTES(accept, sizeof(accept), "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=!");
}

TEST(sample_nonce_gives_the_sample_key)
{
    char key[TWS_KEY_LENGTH + 1];
    key[TWS_KEY_LENGTH] = '!';
    tws_handshake_key((const uint8_t *)"the sample nonce", key);
    CHECK_BYTES(key, sizeof(key), "dGhlIHNhbXBsZSBub25jZQ==!");
    tws_handshake_key((const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                      key);
    CHECK_BYTES(key, sizeof(key), "AAAAAAAAAAAAAAAAAAAAAA==!");
}

static bool
valid(const char *data, size_t length)
{
    struct guard guard = guard_copy(data, length);
    bool result = tws_handshake_key_valid(
        (struct tws_span){.data = (const char *)guard.data, .length = length});
    guard_free(&guard);
    return result;
}

#define VALID(literal) valid(literal, sizeof(literal) - 1)

TEST(key_of_another_length_is_invalid)
{
    CHECK(VALID("dGhlIHNhbXBsZSBub25jZQ=="));
    CHECK(!VALID(""));
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZQ="));
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZQ==="));
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZQ"));
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZUU=")); /* 17 bytes */
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZUVF")); /* 18 bytes */
    CHECK(!VALID("SGVsbG8sIHdvcmxkIQ=="));     /* 13 bytes */
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZ==="));
    CHECK(!VALID("dGhlIHNhbXBsZSBub25jZQ==\0"));
}

TEST(key_of_another_alphabet_is_invalid)
{
    for (int byte = 0; byte <= 0xff; byte++) {
        bool digit =
            (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z')
            || (byte >= '0' && byte <= '9') || byte == '+' || byte == '/';
        for (size_t i = 0; i < 24; i++) {
            char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
            key[i] = (char)byte;
            CHECK_INT(valid(key, 24), i < 22 ? digit : byte == '=');
        }
    }
}

TEST(equality_needs_length_and_every_byte)
{
    CHECK(tws_equal_constant_time(TWS_SPAN("abc"), TWS_SPAN("abc")));
    CHECK(!tws_equal_constant_time(TWS_SPAN("abc"), TWS_SPAN("abd")));
    CHECK(!tws_equal_constant_time(TWS_SPAN("bbc"), TWS_SPAN("abc")));
    CHECK(!tws_equal_constant_time(TWS_SPAN("abc"), TWS_SPAN("abcd")));
    CHECK(!tws_equal_constant_time(TWS_SPAN("ab\0c"), TWS_SPAN("ab\0d")));
    CHECK(!tws_equal_constant_time(TWS_SPAN("a"), (struct tws_span){0}));
    CHECK(tws_equal_constant_time((struct tws_span){0}, TWS_SPAN("")));
}

RUN(T(sample_key_gives_the_sample_accept), T(accept_writes_no_byte_too_many),
    T(sample_nonce_gives_the_sample_key), T(key_of_another_length_is_invalid),
    T(key_of_another_alphabet_is_invalid),
    T(equality_needs_length_and_every_byte))
