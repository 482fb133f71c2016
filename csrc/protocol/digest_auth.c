#include "protocol/digest_auth.h"

#include "protocol/digest.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

static const struct {
    struct tws_span name;
    size_t hex_length;
    const EVP_MD *(*hash)(void);
} ALGORITHMS[TWS_DIGEST_ALGORITHMS] = {
    [TWS_DIGEST_MD5] = {{"MD5", 3}, 32, EVP_md5},
    [TWS_DIGEST_SHA256] = {{"SHA-256", 7}, 64, EVP_sha256},
};

struct tws_span
tws_digest_name(enum tws_digest_algorithm algorithm)
{
    return ALGORITHMS[algorithm].name;
}

bool
tws_digest_by_name(struct tws_span name, enum tws_digest_algorithm *algorithm)
{
    for (int i = 0; i < TWS_DIGEST_ALGORITHMS; i++) {
        if (tws_span_equal_nocase(ALGORITHMS[i].name, name)) {
            *algorithm = (enum tws_digest_algorithm)i;
            return true;
        }
    }
    return false;
}

size_t
tws_digest_hex_length(enum tws_digest_algorithm algorithm)
{
    return ALGORITHMS[algorithm].hex_length;
}

static bool
is_lower_hex(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) {
            return false;
        }
    }
    return true;
}

bool
tws_digest_is_hex(enum tws_digest_algorithm algorithm, struct tws_span text)
{
    return text.length == tws_digest_hex_length(algorithm)
           && is_lower_hex(text);
}

/* Hashing --------------------------------------------------------------- */

/* A hash under way: of the parts that were added, with a colon between any
 * two of them. */
struct hash {
    enum tws_digest_algorithm algorithm;
    EVP_MD_CTX *context;
    bool begun;
    bool failed;
};

static void
add_bytes(struct hash *hash, struct tws_span bytes)
{
    if (!hash->failed && bytes.length > 0
        && EVP_DigestUpdate(hash->context, bytes.data, bytes.length) != 1) {
        hash->failed = true;
    }
}

static void
begin_hash(struct hash *hash, enum tws_digest_algorithm algorithm)
{
    /* What libcrypto says about a failure must not stay on the thread's
     * queue, where the next TLS call would take it for its own. */
    (void)ERR_set_mark();
    *hash = (struct hash){.algorithm = algorithm, .context = EVP_MD_CTX_new()};
    hash->failed =
        hash->context == NULL
        || EVP_DigestInit_ex(hash->context, ALGORITHMS[algorithm].hash(), NULL)
               != 1;
}

static void
add_colon(struct hash *hash)
{
    if (hash->begun) {
        add_bytes(hash, TWS_SPAN(":"));
    }
    hash->begun = true;
}

static void
add(struct hash *hash, struct tws_span part)
{
    add_colon(hash);
    add_bytes(hash, part);
}

/* Adds a value without the backslashes of its quoted pairs. */
static void
add_unquoted(struct hash *hash, const struct tws_auth_param *param)
{
    struct tws_span rest = param->value;
    add_colon(hash);
    while (param->quoted_pairs && rest.length > 0) {
        const char *backslash = memchr(rest.data, '\\', rest.length);
        if (backslash == NULL) {
            break;
        }
        size_t before = (size_t)(backslash - rest.data);
        add_bytes(hash,
                  (struct tws_span){.data = rest.data, .length = before});
        tws_span_advance(&rest, before + 1);
        add_bytes(hash, (struct tws_span){.data = rest.data, .length = 1});
        tws_span_advance(&rest, 1); /* be it another backslash */
    }
    add_bytes(hash, rest);
}

static enum tws_status
end_hash(struct hash *hash, char out[TWS_DIGEST_HEX_MAX],
         struct tws_error *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    bool done =
        !hash->failed
        && EVP_DigestFinal_ex(hash->context, digest, &length) == 1
        && (size_t)length * 2 == tws_digest_hex_length(hash->algorithm);
    EVP_MD_CTX_free(hash->context);
    (void)ERR_pop_to_mark();
    if (!done) {
        return tws_error_nomem(err);
    }
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = DIGITS[digest[i] >> 4];
        out[2 * i + 1] = DIGITS[digest[i] & 15];
    }
    OPENSSL_cleanse(digest, sizeof(digest));
    return TWS_OK;
}

enum tws_status
tws_digest_ha1(enum tws_digest_algorithm algorithm, struct tws_span user,
               const struct tws_auth_param *realm, struct tws_span password,
               char out[TWS_DIGEST_HEX_MAX], struct tws_error *err)
{
    struct hash hash;
    begin_hash(&hash, algorithm);
    add(&hash, user);
    add_unquoted(&hash, realm);
    add(&hash, password);
    return end_hash(&hash, out, err);
}

enum tws_status
tws_digest_userhash(enum tws_digest_algorithm algorithm, struct tws_span user,
                    const struct tws_auth_param *realm,
                    char out[TWS_DIGEST_HEX_MAX], struct tws_error *err)
{
    struct hash hash;
    begin_hash(&hash, algorithm);
    add(&hash, user);
    add_unquoted(&hash, realm);
    return end_hash(&hash, out, err);
}

enum tws_status
tws_digest_response(const struct tws_digest_request *request,
                    struct tws_span ha1, char out[TWS_DIGEST_HEX_MAX],
                    struct tws_error *err)
{
    char ha2[TWS_DIGEST_HEX_MAX];
    struct hash hash;
    begin_hash(&hash, request->algorithm);
    add(&hash, request->method);
    add(&hash, request->uri);
    enum tws_status status = end_hash(&hash, ha2, err);
    if (status != TWS_OK) {
        return status;
    }
    begin_hash(&hash, request->algorithm);
    add(&hash, ha1);
    add_unquoted(&hash, &request->nonce);
    add(&hash, request->nc);
    add(&hash, request->cnonce);
    add(&hash, TWS_SPAN("auth"));
    add(&hash, (struct tws_span){
                   .data = ha2,
                   .length = tws_digest_hex_length(request->algorithm),
               });
    return end_hash(&hash, out, err);
}

/* A server's side ------------------------------------------------------- */

enum tws_status
tws_digest_write_challenge(struct tws_buffer *out,
                           enum tws_digest_algorithm algorithm,
                           struct tws_span realm, struct tws_span nonce,
                           bool stale, struct tws_error *err)
{
    const struct tws_span parts[] = {
        TWS_SPAN("Digest realm=\""),
        realm,
        TWS_SPAN("\", qop=\"auth\", algorithm="),
        tws_digest_name(algorithm),
        TWS_SPAN(", nonce=\""),
        nonce,
        TWS_SPAN("\", charset=UTF-8"),
        stale ? TWS_SPAN(", stale=true") : TWS_SPAN(""),
    };
    return tws_auth_append(out, parts, TWS_ARRAY_SIZE(parts), err);
}

static enum tws_status
improper(struct tws_error *err, const char *what)
{
    return tws_error_refused(err, 400, "credentials of Digest: %s", what);
}

/* A parameter that has to be there, and needs no quoted pairs. */
static enum tws_status
required(const struct tws_auth *auth, struct tws_span name,
         struct tws_auth_param *param, struct tws_error *err)
{
    const struct tws_auth_param *found = tws_auth_find(auth, name);
    if (found == NULL) {
        return tws_error_refused(err, 400,
                                 "credentials of Digest have no %.*s",
                                 TWS_HTTP_QUOTED(name));
    }
    if (found->quoted_pairs) {
        return tws_error_refused(err, 400,
                                 "credentials of Digest have a backslash in "
                                 "%.*s",
                                 TWS_HTTP_QUOTED(name));
    }
    *param = *found;
    return TWS_OK;
}

static enum tws_status
required_value(const struct tws_auth *auth, struct tws_span name,
               struct tws_span *value, struct tws_error *err)
{
    struct tws_auth_param param = {.value = TWS_SPAN("")};
    enum tws_status status = required(auth, name, &param, err);
    if (status == TWS_OK) {
        *value = param.value;
    }
    return status;
}

/* nc-value = 8LHEX (RFC 7616 §3.4), counted from 1. */
static bool
read_count(struct tws_span text, uint32_t *count)
{
    if (text.length != TWS_DIGEST_NC_LENGTH || !is_lower_hex(text)) {
        return false;
    }
    uint32_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *count = value;
    return value > 0;
}

/* RFC 7616 §3.4: without one it is MD5. */
static enum tws_status
read_algorithm(const struct tws_auth *auth,
               enum tws_digest_algorithm *algorithm, struct tws_error *err)
{
    const struct tws_auth_param *param =
        tws_auth_find(auth, TWS_SPAN("algorithm"));
    *algorithm = TWS_DIGEST_MD5;
    if (param != NULL && !tws_digest_by_name(param->value, algorithm)) {
        return tws_error_refused(err, 401,
                                 "credentials of Digest by an algorithm that "
                                 "was not offered");
    }
    return TWS_OK;
}

/* In one of its forms (RFC 7616 §3.4). */
static enum tws_status
read_username(const struct tws_auth *auth,
              struct tws_digest_credentials *credentials,
              struct tws_error *err)
{
    const struct tws_auth_param *plain =
        tws_auth_find(auth, TWS_SPAN("username"));
    const struct tws_auth_param *extended =
        tws_auth_find(auth, TWS_SPAN("username*"));
    const struct tws_auth_param *userhash =
        tws_auth_find(auth, TWS_SPAN("userhash"));
    if ((plain == NULL) == (extended == NULL)) {
        return improper(err, "expected one of username and username*");
    }
    if (userhash != NULL
        && !tws_auth_value_is_nocase(userhash, TWS_SPAN("false"))) {
        return improper(err, "userhash, which was not offered");
    }
    credentials->extended = extended != NULL;
    credentials->username = extended != NULL ? *extended : *plain;
    return TWS_OK;
}

/* What concerns this one request. */
static enum tws_status
read_request(const struct tws_auth *auth,
             struct tws_digest_credentials *credentials, struct tws_error *err)
{
    struct tws_digest_request *request = &credentials->request;
    struct tws_span qop = TWS_SPAN("");
    enum tws_status status =
        required(auth, TWS_SPAN("nonce"), &request->nonce, err);
    if (status == TWS_OK) {
        status =
            required_value(auth, TWS_SPAN("cnonce"), &request->cnonce, err);
    }
    if (status == TWS_OK) {
        status = required_value(auth, TWS_SPAN("nc"), &request->nc, err);
    }
    if (status == TWS_OK) {
        status = required_value(auth, TWS_SPAN("response"),
                                &credentials->response, err);
    }
    if (status == TWS_OK) {
        status = required_value(auth, TWS_SPAN("qop"), &qop, err);
    }
    if (status != TWS_OK) {
        return status;
    }
    if (!tws_span_equal_nocase(qop, TWS_SPAN("auth"))) {
        return improper(err, "qop is not auth");
    }
    if (!read_count(request->nc, &credentials->nc)) {
        return improper(err, "nc is not eight hexadecimal digits above 0");
    }
    return TWS_OK;
}

enum tws_status
tws_digest_read(const struct tws_auth *auth, struct tws_span realm,
                struct tws_span method, struct tws_span target,
                struct tws_digest_credentials *credentials,
                struct tws_error *err)
{
    struct tws_digest_request *request = &credentials->request;
    *request = (struct tws_digest_request){.method = method, .uri = target};
    const struct tws_auth_param *uri = tws_auth_find(auth, TWS_SPAN("uri"));
    const struct tws_auth_param *own = tws_auth_find(auth, TWS_SPAN("realm"));
    enum tws_status status = read_username(auth, credentials, err);
    if (status == TWS_OK) {
        status = read_request(auth, credentials, err);
    }
    if (status != TWS_OK) {
        return status;
    }
    if (own == NULL || uri == NULL) {
        return improper(err, "expected realm and uri");
    }
    /* RFC 7616 §3.4.6: what is asked for is what was signed. */
    if (!tws_auth_value_is(uri, target)) {
        return improper(err, "uri is not the target of the request");
    }
    if (!tws_auth_value_is(own, realm)) {
        return tws_error_refused(err, 401,
                                 "credentials of Digest for another realm");
    }
    return read_algorithm(auth, &request->algorithm, err);
}

/* -1 where it is no hexadecimal digit. */
static int
hex_value(char c)
{
    char lower = tws_ascii_lower(c);
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* ext-value = charset "'" [ language ] "'" value-chars (RFC 8187 §3.2.1). */
static bool
decode_extended(struct tws_span text, char *out, size_t *length)
{
    static const char CHARSET[] = "UTF-8'";
    const size_t prefix = sizeof(CHARSET) - 1;
    struct tws_span front = {.data = text.data, .length = prefix};
    if (text.length < prefix
        || !tws_span_equal_nocase(front, TWS_SPAN("UTF-8'"))) {
        return false;
    }
    tws_span_advance(&text, prefix);
    const char *quote = memchr(text.data, '\'', text.length);
    if (quote == NULL) {
        return false;
    }
    tws_span_advance(&text, (size_t)(quote - text.data) + 1);
    size_t written = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.length ? hex_value(text.data[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_value(text.data[i + 2]);
            if (low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        else if (c == '\'' || c == '*'
                 || !tws_http_is_token(
                     (struct tws_span){.data = &c, .length = 1})) {
            return false; /* not an attr-char */
        }
        out[written] = c;
        written++;
    }
    *length = written;
    return true;
}

enum tws_status
tws_digest_username(const struct tws_digest_credentials *credentials,
                    char *out, size_t *length, struct tws_error *err)
{
    size_t decoded = 0;
    if (!credentials->extended) {
        decoded = tws_auth_unquote(&credentials->username, out);
    }
    else if (credentials->username.quoted_pairs
             || !decode_extended(credentials->username.value, out, &decoded)) {
        return improper(err, "username* is not in the notation of RFC 8187");
    }
    if (!tws_auth_is_text((struct tws_span){.data = out, .length = decoded})) {
        return improper(err, "user name is not UTF-8 without control "
                             "characters");
    }
    *length = decoded;
    return TWS_OK;
}

enum tws_status
tws_digest_verify(const struct tws_digest_credentials *credentials,
                  struct tws_span ha1, bool *match, struct tws_error *err)
{
    char expected[TWS_DIGEST_HEX_MAX];
    enum tws_status status =
        tws_digest_response(&credentials->request, ha1, expected, err);
    if (status != TWS_OK) {
        return status;
    }
    struct tws_span own = {
        .data = expected,
        .length = tws_digest_hex_length(credentials->request.algorithm),
    };
    *match = tws_equal_constant_time(credentials->response, own);
    return TWS_OK;
}
