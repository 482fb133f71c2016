#include "protocol/basic_auth.h"

#include "protocol/http_auth.h"

#include <limits.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

static bool
is_base64_byte(char c)
{
    char lower = tws_ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '+'
           || c == '/';
}

/* How many bytes of padding `text` ends with; SIZE_MAX where it is not
 * base64. libcrypto's decoder takes more than that, as white space and any
 * number of equals signs. */
static size_t
padding_of(struct tws_span text)
{
    /* Digits whose bits that mean nothing are zero (RFC 4648 §3.5): four
     * of them in front of two bytes of padding, two in front of one. */
    static const char *const LAST[] = {NULL, "AEIMQUYcgkosw048", "AQgw"};
    size_t padding = 0;
    if (text.length == 0 || text.length % 4 != 0 || text.length > INT_MAX) {
        return SIZE_MAX;
    }
    while (padding < 2 && text.data[text.length - 1 - padding] == '=') {
        padding++;
    }
    for (size_t i = 0; i < text.length - padding; i++) {
        if (!is_base64_byte(text.data[i])) {
            return SIZE_MAX;
        }
    }
    char last = text.data[text.length - 1 - padding];
    if (padding > 0 && strchr(LAST[padding], last) == NULL) {
        return SIZE_MAX;
    }
    return padding;
}

enum tws_status
tws_basic_decode(struct tws_span token68, char *out, struct tws_span *user,
                 struct tws_span *password, struct tws_error *err)
{
    size_t padding = padding_of(token68);
    if (padding == SIZE_MAX
        || EVP_DecodeBlock((unsigned char *)out,
                           (const unsigned char *)token68.data,
                           (int)token68.length)
               < 0) {
        return tws_error_refused(err, 401,
                                 "credentials of Basic are not base64");
    }
    struct tws_span text = {.data = out,
                            .length = tws_basic_room(token68) - padding};
    if (!tws_auth_is_text(text)) {
        return tws_error_refused(err, 401,
                                 "credentials of Basic are not UTF-8 without "
                                 "control characters");
    }
    const char *colon = memchr(text.data, ':', text.length);
    if (colon == NULL) {
        return tws_error_refused(err, 401,
                                 "credentials of Basic have no colon");
    }
    size_t length = (size_t)(colon - text.data);
    *user = (struct tws_span){.data = text.data, .length = length};
    *password = (struct tws_span){.data = colon + 1,
                                  .length = text.length - length - 1};
    return TWS_OK;
}

enum tws_status
tws_basic_write(struct tws_buffer *out, struct tws_span user,
                struct tws_span password, struct tws_error *err)
{
    static const char SCHEME[] = "Basic ";
    const size_t prefix = sizeof(SCHEME) - 1;
    if (!tws_auth_is_text(user) || !tws_auth_is_text(password)) {
        return tws_error_refused(err, 0,
                                 "user name or password is not UTF-8 without "
                                 "control characters");
    }
    if (user.length > 0 && memchr(user.data, ':', user.length) != NULL) {
        return tws_error_refused(err, 0,
                                 "user name holds a colon, which Basic "
                                 "authentication can't tell from the end of "
                                 "it");
    }
    enum { LONGEST = INT_MAX / 2 };
    if (user.length > LONGEST || password.length > LONGEST - user.length - 1) {
        return tws_error_nomem(err);
    }
    size_t length = user.length + 1 + password.length;
    size_t digits = (length + 2) / 3 * 4;
    uint8_t *room;
    unsigned char *plain = malloc(length);
    if (plain == NULL
        || tws_buffer_reserve(out, prefix + digits + 1, &room) != TWS_OK) {
        free(plain);
        return tws_error_nomem(err);
    }
    if (user.length > 0) {
        memcpy(plain, user.data, user.length);
    }
    plain[user.length] = ':';
    if (password.length > 0) {
        memcpy(plain + user.length + 1, password.data, password.length);
    }
    memcpy(room, SCHEME, prefix);
    /* Writes a NUL behind its text, which is not counted. */
    (void)EVP_EncodeBlock(room + prefix, plain, (int)length);
    tws_buffer_commit(out, prefix + digits);
    OPENSSL_cleanse(plain, length);
    free(plain);
    return TWS_OK;
}

enum tws_status
tws_basic_write_challenge(struct tws_buffer *out, struct tws_span realm,
                          struct tws_error *err)
{
    const struct tws_span parts[] = {
        TWS_SPAN("Basic realm=\""),
        realm,
        /* RFC 7617 §2.1. */
        TWS_SPAN("\", charset=\"UTF-8\""),
    };
    return tws_auth_append(out, parts, TWS_ARRAY_SIZE(parts), err);
}
