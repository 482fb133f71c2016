#include "python/credentials.h"

#include "python/errors.h"
#include "net/random.h"
#include "protocol/http_auth.h"

/* One of both, in the form that RFC 7616 §4 wants; `what` names it. */
static PyObject *
read_text(struct tws_state *state, PyObject *given, const char *what)
{
    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError,
                     "auth has a %s that is %.200s, expected ('user', "
                     "'password'), two str",
                     what, Py_TYPE(given)->tp_name);
        return NULL;
    }
    PyObject *text =
        PyObject_CallFunction(state->normalize, "sO", "NFC", given);
    if (text == NULL) {
        return NULL;
    }
    Py_ssize_t length;
    const char *data = PyUnicode_AsUTF8AndSize(text, &length);
    if (data == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        Py_DECREF(text);
        return NULL;
    }
    struct tws_span span = {.data = data, .length = (size_t)length};
    if (data == NULL || !tws_auth_is_text(span)) {
        PyErr_Format(PyExc_ValueError,
                     "auth has a %s with a control character or a lone "
                     "surrogate, which can't be sent (RFC 7617 2)",
                     what);
        Py_CLEAR(text);
    }
    return text;
}

static int
read_pair(struct tws_state *state, PyObject *pair, PyObject **user,
          PyObject **password)
{
    if (PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "auth is a tuple of %zd, expected ('user', 'password')",
                     PyTuple_GET_SIZE(pair));
        return -1;
    }
    PyObject *name = read_text(state, PyTuple_GET_ITEM(pair, 0), "user name");
    if (name == NULL) {
        return -1;
    }
    if (PyUnicode_FindChar(name, ':', 0, PyUnicode_GET_LENGTH(name), 1) >= 0) {
        PyErr_SetString(PyExc_ValueError,
                        "auth has a user name with a colon, which Basic "
                        "authentication can't tell from the end of it (RFC "
                        "7617 2)");
        Py_DECREF(name);
        return -1;
    }
    PyObject *word = read_text(state, PyTuple_GET_ITEM(pair, 1), "password");
    if (word == NULL) {
        Py_DECREF(name);
        return -1;
    }
    *user = name;
    *password = word;
    return 0;
}

int
tws_credentials_read(struct tws_state *state, PyObject *auth, PyObject **user,
                     PyObject **password)
{
    if (auth == NULL || auth == Py_None
        || PyObject_TypeCheck(auth, state->auth_type)) {
        return 0;
    }
    if (PyTuple_Check(auth)) {
        return read_pair(state, auth, user, password);
    }
    PyErr_Format(PyExc_TypeError,
                 "auth is %.200s, expected BasicAuth(...) or DigestAuth(...) "
                 "of a server, ('user', 'password') of a client, or None",
                 Py_TYPE(auth)->tp_name);
    return -1;
}

/* What the fields of a refusal ask for; the caller frees the array. NULL with
 * MemoryError. */
static struct tws_span *
challenges_of(const struct tws_http_head *refusal, size_t *count)
{
    struct tws_span name = refusal->status == 407
                               ? TWS_SPAN("Proxy-Authenticate")
                               : TWS_SPAN("WWW-Authenticate");
    struct tws_span *values =
        PyMem_Calloc(refusal->field_count + 1, sizeof(*values));
    *count = 0;
    if (values == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < refusal->field_count; i++) {
        if (tws_span_equal_nocase(refusal->fields[i].name, name)) {
            values[*count] = refusal->fields[i].value;
            (*count)++;
        }
    }
    return values;
}

int
tws_credentials_answer(struct tws_state *state,
                       const struct tws_http_head *refusal,
                       const struct tws_auth_client *client, bool *stale,
                       struct tws_buffer *out, struct tws_error *err)
{
    static const char DIGITS[] = "0123456789abcdef";
    struct tws_auth_client asking = *client;
    uint8_t random[16];
    char cnonce[2 * sizeof(random)];
    size_t count;
    if (refusal->status != 401 && refusal->status != 407) {
        (void)tws_error_refused(err, refusal->status,
                                "no credentials were asked for");
        return 0;
    }
    if (tws_random_bytes(random, sizeof(random), err) != TWS_OK) {
        (void)tws_raise(state, err);
        return -1;
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        cnonce[2 * i] = DIGITS[random[i] >> 4];
        cnonce[2 * i + 1] = DIGITS[random[i] & 15];
    }
    asking.cnonce =
        (struct tws_span){.data = cnonce, .length = sizeof(cnonce)};
    asking.nonce_count = 1; /* each challenge is answered once */
    struct tws_span *values = challenges_of(refusal, &count);
    if (values == NULL) {
        return -1;
    }
    enum tws_status status = tws_auth_answer(values, count, &asking, out, err);
    *stale = tws_auth_is_stale(values, count);
    PyMem_Free(values);
    if (status == TWS_OK) {
        return 1;
    }
    if (status == TWS_REFUSED) {
        return 0;
    }
    (void)tws_raise(state, err);
    return -1;
}
