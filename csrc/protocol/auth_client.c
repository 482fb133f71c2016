#include "protocol/auth_client.h"

#include "protocol/basic_auth.h"
#include "protocol/digest_auth.h"
#include "protocol/http_fields.h"
#include "protocol/utf8.h"

#include <openssl/crypto.h>
#include <stdio.h>

enum strength {
    NONE,
    BASIC,
    DIGEST_MD5,
    DIGEST_SHA256,
};

/* Choosing -------------------------------------------------------------- */

/* qop-options is a list in one quoted string (RFC 7616 §3.3). */
static bool
offers_qop_auth(const struct tws_auth *auth)
{
    const struct tws_auth_param *qop = tws_auth_find(auth, TWS_SPAN("qop"));
    struct tws_span element;
    if (qop == NULL || qop->quoted_pairs) {
        return false;
    }
    struct tws_list_walker walker = {.rest = qop->value};
    while (tws_list_next(&walker, &element)) {
        if (tws_span_equal_nocase(element, TWS_SPAN("auth"))) {
            return true;
        }
    }
    return false;
}

static enum strength
strength_of(const struct tws_auth *auth)
{
    if (tws_span_equal_nocase(auth->scheme, TWS_SPAN("Basic"))) {
        return BASIC;
    }
    if (!tws_span_equal_nocase(auth->scheme, TWS_SPAN("Digest"))
        || tws_auth_find(auth, TWS_SPAN("realm")) == NULL
        || tws_auth_find(auth, TWS_SPAN("nonce")) == NULL
        || !offers_qop_auth(auth)) {
        return NONE;
    }
    const struct tws_auth_param *name =
        tws_auth_find(auth, TWS_SPAN("algorithm"));
    enum tws_digest_algorithm algorithm = TWS_DIGEST_MD5; /* §3.3 */
    if (name != NULL && !tws_digest_by_name(name->value, &algorithm)) {
        return NONE;
    }
    return algorithm == TWS_DIGEST_SHA256 ? DIGEST_SHA256 : DIGEST_MD5;
}

/* The challenge to answer; NONE where there is none. */
static enum strength
choose(const struct tws_span *challenges, size_t count,
       struct tws_auth *chosen)
{
    enum strength best = NONE;
    for (size_t i = 0; i < count; i++) {
        struct tws_auth_walker walker = {.rest = challenges[i]};
        struct tws_auth auth;
        struct tws_error ignored; /* what follows in this field counts not */
        while (tws_auth_next(&walker, &auth, &ignored) == TWS_OK) {
            enum strength strength = strength_of(&auth);
            if (strength > best) {
                best = strength;
                *chosen = auth;
            }
        }
    }
    return best;
}

bool
tws_auth_is_stale(const struct tws_span *challenges, size_t count)
{
    struct tws_auth auth;
    if (choose(challenges, count, &auth) < DIGEST_MD5) {
        return false;
    }
    const struct tws_auth_param *stale =
        tws_auth_find(&auth, TWS_SPAN("stale"));
    return stale != NULL && tws_auth_value_is_nocase(stale, TWS_SPAN("true"));
}

/* Writing --------------------------------------------------------------- */

/* What is appended; a failure is kept until the end. */
struct writer {
    struct tws_buffer *out;
    size_t before; /* length of `out` at the beginning */
    bool failed;
};

static void
put(struct writer *writer, struct tws_span text)
{
    if (!writer->failed
        && tws_buffer_append(writer->out, text.data, text.length) != TWS_OK) {
        writer->failed = true;
    }
}

/* A parameter behind others. */
static void
put_param(struct writer *writer, struct tws_span name, struct tws_span value,
          bool quoted)
{
    struct tws_span quote = quoted ? TWS_SPAN("\"") : TWS_SPAN("");
    put(writer, TWS_SPAN(", "));
    put(writer, name);
    put(writer, TWS_SPAN("="));
    put(writer, quote);
    put(writer, value);
    put(writer, quote);
}

/* quoted-string of a text without control characters (RFC 9110 §5.6.4). */
static void
put_quoted(struct writer *writer, struct tws_span text)
{
    put(writer, TWS_SPAN("\""));
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '"' || text.data[i] == '\\') {
            put(writer, TWS_SPAN("\\"));
        }
        put(writer, (struct tws_span){.data = text.data + i, .length = 1});
    }
    put(writer, TWS_SPAN("\""));
}

/* ext-value in UTF-8, without a language (RFC 8187 §3.2.1). */
static void
put_extended(struct writer *writer, struct tws_span text)
{
    static const char DIGITS[] = "0123456789ABCDEF";
    put(writer, TWS_SPAN("UTF-8''"));
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        struct tws_span one = {.data = text.data + i, .length = 1};
        /* attr-char is a token without these three. */
        if (tws_http_is_token(one) && byte != '*' && byte != '\''
            && byte != '%') {
            put(writer, one);
            continue;
        }
        const char escaped[3] = {'%', DIGITS[byte >> 4], DIGITS[byte & 15]};
        put(writer,
            (struct tws_span){.data = escaped, .length = sizeof(escaped)});
    }
}

/* The user name in the form that the challenge wants (RFC 7616 §3.4). */
static enum tws_status
put_username(struct writer *writer, const struct tws_auth *challenge,
             enum tws_digest_algorithm algorithm, struct tws_span user,
             bool hashed, struct tws_error *err)
{
    const struct tws_auth_param *charset =
        tws_auth_find(challenge, TWS_SPAN("charset"));
    char hash[TWS_DIGEST_HEX_MAX];
    if (hashed) {
        enum tws_status status = tws_digest_userhash(
            algorithm, user, tws_auth_find(challenge, TWS_SPAN("realm")), hash,
            err);
        if (status != TWS_OK) {
            return status;
        }
        put(writer, TWS_SPAN("Digest username="));
        put_quoted(writer, (struct tws_span){
                               .data = hash,
                               .length = tws_digest_hex_length(algorithm),
                           });
    }
    else if (charset != NULL
             && tws_auth_value_is_nocase(charset, TWS_SPAN("UTF-8"))
             && !tws_utf8_is_ascii((const uint8_t *)user.data, user.length)) {
        put(writer, TWS_SPAN("Digest username*="));
        put_extended(writer, user);
    }
    else {
        put(writer, TWS_SPAN("Digest username="));
        put_quoted(writer, user);
    }
    return TWS_OK;
}

/* The challenge's own parameters, and what was computed from them. */
static void
put_response(struct writer *writer, const struct tws_auth *challenge,
             const struct tws_digest_request *request, bool hashed,
             struct tws_span response)
{
    /* Their values still have the backslashes they came with. */
    static const char *const ECHOED[] = {"realm", "nonce", "opaque"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(ECHOED); i++) {
        struct tws_span name = {.data = ECHOED[i],
                                .length = strlen(ECHOED[i])};
        const struct tws_auth_param *param = tws_auth_find(challenge, name);
        if (param != NULL) {
            put_param(writer, name, param->value, true);
        }
    }
    /* Servers older than RFC 7616 may not know what they do not offer. */
    if (tws_auth_find(challenge, TWS_SPAN("algorithm")) != NULL) {
        put_param(writer, TWS_SPAN("algorithm"),
                  tws_digest_name(request->algorithm), false);
    }
    put(writer, TWS_SPAN(", uri="));
    put_quoted(writer, request->uri);
    put_param(writer, TWS_SPAN("qop"), TWS_SPAN("auth"), false);
    put_param(writer, TWS_SPAN("nc"), request->nc, false);
    put_param(writer, TWS_SPAN("cnonce"), request->cnonce, true);
    put_param(writer, TWS_SPAN("response"), response, true);
    if (hashed) {
        put_param(writer, TWS_SPAN("userhash"), TWS_SPAN("true"), false);
    }
}

static enum tws_status
answer_digest(const struct tws_auth *challenge,
              const struct tws_auth_client *client,
              enum tws_digest_algorithm algorithm, struct tws_buffer *out,
              struct tws_error *err)
{
    char nc[TWS_DIGEST_NC_LENGTH + 1];
    char ha1[TWS_DIGEST_HEX_MAX];
    char response[TWS_DIGEST_HEX_MAX];
    const size_t length = tws_digest_hex_length(algorithm);
    struct writer writer = {.out = out, .before = tws_buffer_length(out)};
    const struct tws_auth_param *userhash =
        tws_auth_find(challenge, TWS_SPAN("userhash"));
    bool hashed = userhash != NULL
                  && tws_auth_value_is_nocase(userhash, TWS_SPAN("true"));
    (void)snprintf(nc, sizeof(nc), "%08x", (unsigned)client->nonce_count);
    struct tws_digest_request request = {
        .algorithm = algorithm,
        .nonce = *tws_auth_find(challenge, TWS_SPAN("nonce")),
        .nc = {.data = nc, .length = TWS_DIGEST_NC_LENGTH},
        .cnonce = client->cnonce,
        .method = client->method,
        .uri = client->target,
    };
    enum tws_status status = tws_digest_ha1(
        algorithm, client->user, tws_auth_find(challenge, TWS_SPAN("realm")),
        client->password, ha1, err);
    if (status == TWS_OK) {
        struct tws_span key = {.data = ha1, .length = length};
        status = tws_digest_response(&request, key, response, err);
    }
    OPENSSL_cleanse(ha1, sizeof(ha1));
    if (status == TWS_OK) {
        status = put_username(&writer, challenge, algorithm, client->user,
                              hashed, err);
    }
    if (status == TWS_OK) {
        put_response(&writer, challenge, &request, hashed,
                     (struct tws_span){.data = response, .length = length});
        if (writer.failed) {
            status = tws_error_nomem(err);
        }
    }
    if (status != TWS_OK) {
        out->end = out->start + writer.before;
    }
    return status;
}

/* What may stand in a quoted string as it is, and in ASCII. */
static bool
is_plain(struct tws_span text)
{
    return tws_http_is_target(text)
           && memchr(text.data, '"', text.length) == NULL
           && memchr(text.data, '\\', text.length) == NULL;
}

static enum tws_status
check_client(const struct tws_auth_client *client, struct tws_error *err)
{
    if (!tws_auth_is_text(client->user)
        || !tws_auth_is_text(client->password)) {
        return tws_error_refused(err, 0,
                                 "user name or password is not UTF-8 without "
                                 "control characters");
    }
    if (!is_plain(client->cnonce) || !tws_http_is_target(client->target)
        || client->nonce_count == 0) {
        return tws_error_refused(err, 0,
                                 "cnonce, target or nonce count can't be "
                                 "sent");
    }
    return TWS_OK;
}

enum tws_status
tws_auth_answer(const struct tws_span *challenges, size_t count,
                const struct tws_auth_client *client, struct tws_buffer *out,
                struct tws_error *err)
{
    struct tws_auth chosen;
    enum tws_status status = check_client(client, err);
    if (status != TWS_OK) {
        return status;
    }
    switch (choose(challenges, count, &chosen)) {
    case DIGEST_SHA256:
        return answer_digest(&chosen, client, TWS_DIGEST_SHA256, out, err);
    case DIGEST_MD5:
        return answer_digest(&chosen, client, TWS_DIGEST_MD5, out, err);
    case BASIC:
        return tws_basic_write(out, client->user, client->password, err);
    case NONE:
        break;
    }
    return tws_error_refused(err, 401,
                             "no challenge that can be answered, expected "
                             "Digest with SHA-256 or MD5 and qop=auth, or "
                             "Basic");
}
