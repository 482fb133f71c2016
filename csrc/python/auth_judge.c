/* Who is it? Reads credentials, and asks the program about them. */
#include "python/auth_type.h"

#include "python/auth_nonces.h"
#include "python/errors.h"
#include "protocol/basic_auth.h"
#include "protocol/handshake_server.h"

#include <openssl/crypto.h>

struct tws_auth_request
tws_auth_request_of(const struct tws_http_head *head)
{
    struct tws_auth_request request = {.method = head->method,
                                       .target = head->target};
    const struct tws_http_field *field =
        tws_http_find(head, TWS_SPAN("Authorization"), &request.count);
    request.credentials = field == NULL ? TWS_SPAN("") : field->value;
    return request;
}

/* 0, the verdict says why. */
static int
refuse(struct tws_verdict *verdict, uint16_t http_status, const char *reason)
{
    (void)tws_error_refused(&verdict->refusal, http_status, "%s", reason);
    return 0;
}

/* 0 for what *err refuses, else -1 with an exception. */
static int
failed(AuthObject *auth, struct tws_verdict *verdict,
       const struct tws_error *err)
{
    if (err->status == TWS_REFUSED) {
        verdict->refusal = *err;
        return 0;
    }
    (void)tws_raise(auth->state, err);
    return -1;
}

/* The same words for all that may be wrong: who guesses learns nothing. */
static int
refuse_wrong(struct tws_verdict *verdict)
{
    return refuse(verdict, 401, "wrong user name or password");
}

static PyObject *
utf8(struct tws_span text)
{
    return PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.length, NULL);
}

/* Basic ----------------------------------------------------------------- */

static int
ask_check(AuthObject *auth, struct tws_span user, struct tws_span password,
          struct tws_verdict *verdict)
{
    int truth = -1;
    PyObject *result = NULL;
    PyObject *name = utf8(user);
    PyObject *word = utf8(password);
    PyObject *check = Py_NewRef(auth->callback);
    if (name != NULL && word != NULL) {
        result = PyObject_CallFunctionObjArgs(check, name, word, NULL);
        truth = result == NULL ? -1 : PyObject_IsTrue(result);
    }
    if (truth > 0) {
        verdict->username = Py_NewRef(name);
    }
    Py_DECREF(check);
    Py_XDECREF(result);
    Py_XDECREF(name);
    Py_XDECREF(word);
    return truth == 0 ? refuse_wrong(verdict) : truth > 0 ? 0 : -1;
}

static int
judge_basic(AuthObject *auth, const struct tws_auth *given,
            struct tws_verdict *verdict)
{
    struct tws_span user;
    struct tws_span password;
    struct tws_error err;
    size_t room = tws_basic_room(given->token68);
    char *plain = PyMem_Malloc(room + 1);
    if (plain == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int result =
        tws_basic_decode(given->token68, plain, &user, &password, &err)
                == TWS_OK
            ? ask_check(auth, user, password, verdict)
            : failed(auth, verdict, &err);
    OPENSSL_cleanse(plain, room);
    PyMem_Free(plain);
    return result;
}

/* Digest ---------------------------------------------------------------- */

static bool
is_offered(const AuthObject *auth, enum tws_digest_algorithm algorithm)
{
    for (size_t i = 0; i < auth->algorithm_count; i++) {
        if (auth->algorithms[i] == algorithm) {
            return true;
        }
    }
    return false;
}

/* HA1 of a password. Made for unknown users, too. */
static int
hash_password(AuthObject *auth, enum tws_digest_algorithm algorithm,
              struct tws_span user, PyObject *password,
              char ha1[TWS_DIGEST_HEX_MAX])
{
    struct tws_auth_param realm = {.value = auth->realm_span};
    struct tws_span text = TWS_SPAN("");
    PyObject *normal = NULL;
    struct tws_error err;
    if (password != NULL) {
        /* RFC 7616 §4: clients send the hash of this form. */
        normal = PyUnicode_IS_ASCII(password)
                     ? Py_NewRef(password)
                     : PyObject_CallFunction(auth->state->normalize, "sO",
                                             "NFC", password);
        Py_ssize_t length = 0;
        text.data =
            normal == NULL ? NULL : PyUnicode_AsUTF8AndSize(normal, &length);
        text.length = (size_t)length;
    }
    if (text.data == NULL) {
        Py_XDECREF(normal);
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            /* That one carries the password along. */
            PyErr_SetString(PyExc_ValueError,
                            "password_of() returned a str with a lone "
                            "surrogate, which UTF-8 can't encode");
        }
        return -1;
    }
    enum tws_status status =
        tws_digest_ha1(algorithm, user, &realm, text, ha1, &err);
    Py_XDECREF(normal);
    if (status != TWS_OK) {
        (void)tws_raise(auth->state, &err);
        return -1;
    }
    return 0;
}

/* Puts the hash that an HA1 holds in the place of `ha1`. 1; 0 where it is of
 * another algorithm; -1 with an exception. */
static int
read_ha1(PyObject *object, enum tws_digest_algorithm algorithm,
         char ha1[TWS_DIGEST_HEX_MAX])
{
    int result = -1;
    Py_ssize_t length;
    enum tws_digest_algorithm own = algorithm;
    PyObject *hex = PyObject_GetAttrString(object, "hex");
    PyObject *name = PyObject_GetAttrString(object, "algorithm");
    if (hex == NULL || name == NULL) {
        goto done;
    }
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text == NULL
        || !tws_digest_by_name(
            (struct tws_span){.data = text, .length = (size_t)length}, &own)) {
        goto invalid;
    }
    text = PyUnicode_AsUTF8AndSize(hex, &length);
    if (text == NULL
        || !tws_digest_is_hex(own, (struct tws_span){
                                       .data = text,
                                       .length = (size_t)length,
                                   })) {
        goto invalid;
    }
    result = own == algorithm;
    if (result > 0) {
        memcpy(ha1, text, (size_t)length);
    }
    goto done;
invalid:
    PyErr_SetString(PyExc_ValueError,
                    "password_of() returned an HA1 without a valid hash");
done:
    Py_XDECREF(hex);
    Py_XDECREF(name);
    return result;
}

/* For who wonders why a password that is right does not do. */
static int
log_other_algorithm(AuthObject *auth, enum tws_digest_algorithm algorithm)
{
    PyObject *text = PyUnicode_FromFormat(
        "password_of() returned an HA1 for another algorithm than %s, which "
        "the client uses: give DigestAuth algorithms=(...) that all its HA1 "
        "are for",
        tws_digest_name(algorithm).data);
    PyObject *result = text == NULL
                           ? NULL
                           : PyObject_CallOneArg(auth->state->log_debug, text);
    Py_XDECREF(text);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* HA1 of the user as password_of() tells it. 1; 0 where there is no such user
 * or none for this algorithm: `ha1` then is something else. -1 with an
 * exception. The work is the same whatever it tells, so that the time that it
 * takes says nothing of which users there are. */
static int
ask_password(AuthObject *auth, enum tws_digest_algorithm algorithm,
             struct tws_span user, PyObject *name,
             char ha1[TWS_DIGEST_HEX_MAX])
{
    int result = -1;
    PyObject *password_of = Py_NewRef(auth->callback);
    PyObject *told = PyObject_CallOneArg(password_of, name);
    Py_DECREF(password_of);
    if (told == NULL) {
        return -1;
    }
    bool is_text = PyUnicode_Check(told);
    if (!is_text && told != Py_None
        && !PyObject_TypeCheck(told, (PyTypeObject *)auth->state->HA1)) {
        PyErr_Format(PyExc_TypeError,
                     "password_of() returned %.200s, expected a str, an HA1, "
                     "or None for an unknown user",
                     Py_TYPE(told)->tp_name);
    }
    else if (hash_password(auth, algorithm, user, is_text ? told : NULL, ha1)
             == 0) {
        result = is_text ? 1 : 0;
        if (!is_text && told != Py_None) {
            result = read_ha1(told, algorithm, ha1);
            if (result == 0) {
                result = log_other_algorithm(auth, algorithm);
            }
        }
    }
    Py_DECREF(told);
    return result;
}

/* The credentials are right: are they new? */
static int
judge_nonce(AuthObject *auth, const struct tws_digest_credentials *given,
            PyObject *name, struct tws_verdict *verdict)
{
    enum tws_nonce_state state;
    if (tws_auth_nonces_use(auth->state, auth->nonces,
                            given->request.nonce.value, given->nc, &state)
        < 0) {
        return -1;
    }
    if (state == TWS_NONCE_GOOD) {
        verdict->username = Py_NewRef(name);
        return 0;
    }
    verdict->stale = true;
    return refuse(verdict, 401,
                  state == TWS_NONCE_USED
                      ? "the nonce was used before: answer the new one"
                      : "the nonce is too old: answer the new one");
}

static int
judge_digest(AuthObject *auth, const struct tws_auth_request *request,
             const struct tws_auth *given, struct tws_verdict *verdict)
{
    struct tws_digest_credentials credentials;
    struct tws_error err;
    char ha1[TWS_DIGEST_HEX_MAX];
    struct tws_span user = TWS_SPAN("");
    PyObject *name = NULL;
    int result = -1;
    if (tws_digest_read(given, auth->realm_span, request->method,
                        request->target, &credentials, &err)
        != TWS_OK) {
        return failed(auth, verdict, &err);
    }
    const enum tws_digest_algorithm algorithm = credentials.request.algorithm;
    if (!is_offered(auth, algorithm)) {
        return refuse(verdict, 401,
                      "credentials of Digest by an algorithm that was not "
                      "offered");
    }
    char *plain = PyMem_Malloc(credentials.username.value.length + 1);
    if (plain == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    user.data = plain;
    if (tws_digest_username(&credentials, plain, &user.length, &err)
        != TWS_OK) {
        result = failed(auth, verdict, &err);
        goto done;
    }
    name = utf8(user);
    int known =
        name == NULL ? -1 : ask_password(auth, algorithm, user, name, ha1);
    bool match = false;
    if (known < 0) {
        goto done;
    }
    struct tws_span key = {.data = ha1,
                           .length = tws_digest_hex_length(algorithm)};
    if (tws_digest_verify(&credentials, key, &match, &err) != TWS_OK) {
        result = failed(auth, verdict, &err);
    }
    else if (!match || known == 0) {
        result = refuse_wrong(verdict);
    }
    else {
        result = judge_nonce(auth, &credentials, name, verdict);
    }
done:
    OPENSSL_cleanse(ha1, sizeof(ha1));
    Py_XDECREF(name);
    PyMem_Free(plain);
    return result;
}

/* Both ------------------------------------------------------------------ */

int
tws_auth_judge(AuthObject *auth, const struct tws_auth_request *request,
               struct tws_verdict *verdict)
{
    struct tws_auth given;
    struct tws_error err;
    *verdict = (struct tws_verdict){.username = NULL};
    if (auth->callback == NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "%.200s.__init__() was not called: call "
                     "super().__init__() in the subclass",
                     Py_TYPE(auth)->tp_name);
        return -1;
    }
    if (request->count == 0) {
        return refuse(verdict, 401,
                      "this server asks for a user name and a password: no "
                      "Authorization field");
    }
    /* RFC 9110 §11.6.2: it is no list. */
    if (request->count > 1) {
        return refuse(verdict, 400,
                      "several Authorization fields, expected one");
    }
    if (tws_auth_parse(request->credentials, &given, &err) != TWS_OK) {
        return failed(auth, verdict, &err);
    }
    struct tws_span scheme =
        auth->nonces == NULL ? TWS_SPAN("Basic") : TWS_SPAN("Digest");
    /* RFC 9110 §15.5.2: whatever does not fit is asked for anew. */
    if (!tws_span_equal_nocase(given.scheme, scheme)) {
        return refuse(verdict, 401,
                      "credentials of a scheme that was not "
                      "offered");
    }
    return auth->nonces == NULL ? judge_basic(auth, &given, verdict)
                                : judge_digest(auth, request, &given, verdict);
}

int
tws_auth_challenges(AuthObject *auth, bool stale,
                    struct tws_buffer out[TWS_DIGEST_ALGORITHMS])
{
    char nonce[TWS_NONCE_LENGTH];
    struct tws_error err;
    enum tws_status status = TWS_OK;
    struct tws_span text = {.data = nonce, .length = sizeof(nonce)};
    if (auth->nonces == NULL) {
        status = tws_basic_write_challenge(&out[0], auth->realm_span, &err);
    }
    else if (tws_auth_nonces_make(auth->state, auth->nonces, nonce) < 0) {
        return -1;
    }
    for (size_t i = 0; status == TWS_OK && i < auth->algorithm_count; i++) {
        status = tws_digest_write_challenge(
            &out[i], auth->algorithms[i], auth->realm_span, text, stale, &err);
    }
    if (status != TWS_OK) {
        (void)tws_raise(auth->state, &err);
        return -1;
    }
    return auth->nonces == NULL ? 1 : (int)auth->algorithm_count;
}

int
tws_auth_write_refusal(AuthObject *auth, const struct tws_verdict *verdict,
                       struct tws_buffer *out)
{
    struct tws_buffer values[TWS_DIGEST_ALGORITHMS] = {TWS_BUFFER_EMPTY};
    struct tws_http_field fields[TWS_DIGEST_ALGORITHMS];
    struct tws_error err;
    int count = 0;
    if (verdict->refusal.http_status == 401) {
        count = tws_auth_challenges(auth, verdict->stale, values);
    }
    for (int i = 0; i < count; i++) {
        fields[i] = (struct tws_http_field){
            .name = TWS_SPAN("WWW-Authenticate"),
            .value = {.data = (const char *)tws_buffer_data(&values[i]),
                      .length = tws_buffer_length(&values[i])},
        };
    }
    int result = count < 0 ? -1 : 0;
    /* An upgrade is a GET (RFC 6455 §4.1): its answer has a body. */
    if (result == 0
        && tws_handshake_write_refusal_with(
               out, verdict->refusal.http_status, fields, (size_t)count,
               verdict->refusal.reason, false, &err)
               != TWS_OK) {
        (void)tws_raise(auth->state, &err);
        result = -1;
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(values); i++) {
        tws_buffer_release(&values[i]);
    }
    return result;
}
