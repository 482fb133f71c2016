#include "python/challenge.h"

#include "python/errors.h"
#include "net/random.h"
#include "protocol/auth_client.h"

#include <openssl/crypto.h>

enum {
    UNAUTHORIZED = 401,
    /* The second where a server finds its nonce stale (RFC 7616 §3.3). */
    ANSWERS_MAX = 2,
};

/* The values of the fields that challenge. */
static size_t
find_challenges(const struct tws_http_head *head,
                struct tws_span values[TWS_HTTP_FIELDS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < head->field_count; i++) {
        if (tws_span_equal_nocase(head->fields[i].name,
                                  TWS_SPAN("WWW-Authenticate"))) {
            values[count] = head->fields[i].value;
            count++;
        }
    }
    return count;
}

/* -1 with an exception. */
static int
utf8_of(PyObject *text, struct tws_span *span)
{
    Py_ssize_t size;
    span->data = PyUnicode_AsUTF8AndSize(text, &size);
    span->length = (size_t)size;
    return span->data == NULL ? -1 : 0;
}

/* True where the program has answered by a field of its own. */
static bool
has_own_answer(const struct tws_options *options)
{
    for (size_t i = 0; i < options->field_count; i++) {
        if (tws_span_equal_nocase(options->field_spans[i].name,
                                  TWS_SPAN("Authorization"))) {
            return true;
        }
    }
    return false;
}

int
tws_challenge_take(struct tws_challenge *challenge,
                   const struct tws_options *options,
                   const struct tws_http_head *head, struct tws_state *state)
{
    struct tws_span values[TWS_HTTP_FIELDS_MAX];
    struct tws_auth_client client = {.method = TWS_SPAN("GET"),
                                     .nonce_count = 1};
    struct tws_error err;
    uint8_t random[16];
    char cnonce[2 * sizeof(random)];
    static const char digits[] = "0123456789abcdef";
    if (options->user == NULL || head->status != UNAUTHORIZED
        || challenge->answered == ANSWERS_MAX || has_own_answer(options)) {
        return 0;
    }
    size_t count = find_challenges(head, values);
    if (challenge->answered > 0 && !tws_auth_is_stale(values, count)) {
        return 0;
    }
    if (utf8_of(options->user, &client.user) < 0
        || utf8_of(options->password, &client.password) < 0
        || utf8_of(options->location, &client.target) < 0) {
        return -1;
    }
    enum tws_status status = tws_random_bytes(random, sizeof(random), &err);
    for (size_t i = 0; i < sizeof(random); i++) {
        cnonce[2 * i] = digits[random[i] >> 4];
        cnonce[2 * i + 1] = digits[random[i] & 15];
    }
    client.cnonce =
        (struct tws_span){.data = cnonce, .length = sizeof(cnonce)};
    uint8_t answered = challenge->answered;
    tws_challenge_release(challenge);
    if (status == TWS_OK) {
        status =
            tws_auth_answer(values, count, &client, &challenge->answer, &err);
    }
    if (status == TWS_REFUSED && err.http_status == UNAUTHORIZED) {
        return 0; /* nothing among them that we know */
    }
    if (status == TWS_REFUSED) {
        PyErr_Format(PyExc_ValueError, "auth can't be sent: %s", err.reason);
        return -1;
    }
    if (status != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    challenge->answered = (uint8_t)(answered + 1);
    return 1;
}

void
tws_challenge_release(struct tws_challenge *challenge)
{
    struct tws_buffer *answer = &challenge->answer;
    if (tws_buffer_length(answer) > 0) {
        OPENSSL_cleanse(tws_buffer_data(answer), tws_buffer_length(answer));
    }
    tws_buffer_release(answer);
    challenge->answered = 0;
}
